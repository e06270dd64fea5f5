"""Sockets and native symbols."""
