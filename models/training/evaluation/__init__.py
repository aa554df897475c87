"""Scores against labels: areas, intervals, curves, and the page that shows them."""
