"""Reports of people, what stands between who blocks and who is blocked, and how it is decided."""
