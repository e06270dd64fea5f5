"""Between publishers and subscribers: what is kept of each broadcast, and who gets what of it."""
