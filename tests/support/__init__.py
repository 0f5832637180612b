"""Helpers shared by tests: small models, data and runs, and page readers."""
