"""Conversations: their rules, their rows, their routes, and what they survive."""
