"""What the page of detectors has of its own."""
