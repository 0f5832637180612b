"""Detection: its records, measures and gallery."""
