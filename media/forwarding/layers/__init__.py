"""Which layer each viewer gets, on what its network carries: decided in Python, some times a second."""
