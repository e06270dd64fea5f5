"""The ordered log of what happened, and those who follow it."""
