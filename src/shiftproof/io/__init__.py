"""The border to the disk: atomic writes, safe readers of untrusted files, whose a folder is."""
