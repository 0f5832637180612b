"""Errors estimated without labels."""
