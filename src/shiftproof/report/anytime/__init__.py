"""The page of an anytime run: the number, the course of its interval, and the evaluated cells."""
