"""Files that people send each other."""
