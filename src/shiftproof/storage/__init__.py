"""Folders behind URLs of fsspec (s3, gs, abfs, hdfs, http, ...): read as if they were here, and written.

:func:`fetch` gives the path of a folder or file behind a URL, and :func:`write_to` a folder here whose
files end up behind one. Every function that takes a path takes these.
"""

from shiftproof.storage.incoming import fetch, holds_tars
from shiftproof.storage.outgoing import find_output, find_output_file, write_file_to, write_to

__all__ = [
    "fetch",
    "find_output",
    "find_output_file",
    "holds_tars",
    "write_file_to",
    "write_to",
]
