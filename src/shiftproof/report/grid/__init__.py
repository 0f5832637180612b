"""The page of a run over the corruption grid, of whatever task."""
