"""What tests of several parts stand on: small models, data and runs, and how pages are read."""
