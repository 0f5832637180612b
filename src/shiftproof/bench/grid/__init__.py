"""A run over the grid: its request, its folder, its extension and its forecast."""
