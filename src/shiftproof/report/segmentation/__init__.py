"""What the page of segmenters has of its own."""
