"""QUIC connections as rows of one table: what of them is aioquic's, and what the kernel beside does for all at once."""
