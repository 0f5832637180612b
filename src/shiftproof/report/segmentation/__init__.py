"""The parts of the page that are specific to segmenters."""
