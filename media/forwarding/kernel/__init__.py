"""The forwarding kernel: what Numba compiles, and runs for each packet outside the GIL. Begin with `loop.py`."""
