"""Labelled studies -> a cohort folder for training, by the way that the node itself takes up to the model tensor."""
