"""Conversations: what may be done in them, decided as pure functions of values."""
