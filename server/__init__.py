"""The shell: config, CLI, edge, web API and page, auth, store, metrics. One file (node.py) wires everything."""
