"""Input and output: atomic writes, safe readers of untrusted files, ownership of folders."""

from shiftproof.io.files import atomic, fingerprint, make_folder, write_bytes, write_json
from shiftproof.io.manifest import begin
from shiftproof.io.text import read_json

__all__ = [
    "atomic",
    "begin",
    "fingerprint",
    "make_folder",
    "read_json",
    "write_bytes",
    "write_json",
]
