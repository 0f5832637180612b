"""What is asked of all pairs of a training row and a test row, one file for each question."""
