"""The files of scores and galleries: each format is defined once, written from it and read into it."""
