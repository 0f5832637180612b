"""The page of an anytime run: the number that was asked, how it narrowed, and where it was asked."""
