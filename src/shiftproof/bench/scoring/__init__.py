"""Scoring of predictions from other frameworks."""
