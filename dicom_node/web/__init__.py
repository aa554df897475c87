"""The web pages: one module for each page, what they share, and who may see what."""
