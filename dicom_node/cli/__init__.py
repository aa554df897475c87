"""The command line: one module of verbs for each reader, and what they share."""
