"""Connections: the one TCP port, HTTP/1.1 and WebSocket on it, and what is written to many sockets at once."""
