"""Calls: who is rung, who is in, and until when, decided as pure functions; and the rooms that carry them."""
