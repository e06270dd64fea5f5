"""The forwarding path: admission table, kernel, its plain-Python reference, and the thread that runs it."""
