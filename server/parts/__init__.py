"""Puts the parts of a node together, one module for each; `server/node.py` joins them."""
