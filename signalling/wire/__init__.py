"""What clients ask and are told over the signalling socket, as msgspec structs: the protocol's whole vocabulary."""
