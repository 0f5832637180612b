"""One search: an engine says which pairs of rows may matter, a question says what becomes of them."""
