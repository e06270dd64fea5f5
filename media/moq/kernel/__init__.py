"""Compiled: what every packet of a QUIC connection in its steady state asks for, many connections in one call."""
