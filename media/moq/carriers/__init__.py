"""What carries sessions: QUIC streams, WebTransport, or one byte stream such as a WebSocket's."""
