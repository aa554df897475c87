"""Training of the embedded brain extractor."""
