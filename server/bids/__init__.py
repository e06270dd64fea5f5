"""Requests for paid private chats: their rules, their rows and the money that is held for them, and their desk."""
