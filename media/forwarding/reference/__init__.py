"""The kernel's decisions in plain Python, to be read first: tests hold the kernel to them, bit for bit."""
