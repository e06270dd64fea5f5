"""Files that people send each other: taken in, made harmless, kept, and shown to those who may see them."""
