"""The questions that a search answers about all pairs of training and test rows, one per module."""
