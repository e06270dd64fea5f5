"""Rooms that run: what the policy decides is cut first, told second, archived third."""
