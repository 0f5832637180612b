"""Adaptation of detectors and segmenters."""
