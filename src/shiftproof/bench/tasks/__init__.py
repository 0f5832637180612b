"""Tasks over the grid: the interface, a folder per task, and the summary that all share."""
