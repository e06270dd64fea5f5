"""moq-lite itself, sans-IO: sessions, their messages and streams in each version, and what frames and catalogs hold."""
