"""Training code for the networks of this package; nothing here is needed to run the node."""
