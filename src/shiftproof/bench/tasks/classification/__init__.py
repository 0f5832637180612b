"""Classification: its records, measures, calibration and gallery."""
