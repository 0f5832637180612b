"""Norm layers of a network, and statistics of a batch and of the source to normalize by."""
