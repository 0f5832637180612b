"""Remote folders at fsspec URLs (s3, gs, abfs, hdfs, http, ...) as inputs and outputs.

:func:`fetch` returns the local path of a remote folder or file, and :func:`write_to` yields a local
folder whose files are uploaded. Every function that takes a path takes these paths.
"""

from shiftproof.storage.incoming import fetch, is_tar_url
from shiftproof.storage.outgoing import (
    fetch_output,
    find_output,
    find_output_file,
    write_file_to,
    write_to,
)

__all__ = [
    "fetch",
    "fetch_output",
    "find_output",
    "find_output_file",
    "is_tar_url",
    "write_file_to",
    "write_to",
]
