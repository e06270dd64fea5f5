"""Conversations in the database: what was decided is written and told of in one transaction."""
