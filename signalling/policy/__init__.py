"""The rules of one room, decided as pure functions: `step` says what a request or a fact does to its state."""
