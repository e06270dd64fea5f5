"""Packets: wire parsers, WebRTC engines, and forwarding. Knows rows and bits; no people, names, money or HTTP."""
