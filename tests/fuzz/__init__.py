"""Coverage-guided fuzzing of every reader of network bytes: `python -m tests.fuzz TARGET --seconds 60`."""
