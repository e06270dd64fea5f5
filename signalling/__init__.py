"""People and rooms: policy, chat, sessions, and the one writer of admission. No HTTP, no SQL, no sockets."""
