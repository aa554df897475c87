"""The node: network, spool, engine, command line."""
