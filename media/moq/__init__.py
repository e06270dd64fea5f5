"""Media over QUIC: moq-lite sessions, what carries them, and the relay between publishers and subscribers."""
