"""Semantic segmentation: its records, measures and gallery."""
