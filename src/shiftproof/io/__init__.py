"""The border to the disk: atomic writes, safe readers of untrusted files, whose a folder is."""

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
