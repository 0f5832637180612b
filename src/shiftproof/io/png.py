"""PNG files whose metadata is damaged: what is not needed for the pixels can be left out."""

from __future__ import annotations

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_TRANSPARENCY = b"tRNS"


def drop_metadata(data: bytes) -> bytes:
    """Return a PNG file without the chunks that say nothing of its pixels; other bytes as they are.

    By the PNG specification (13.1) a damaged ancillary chunk, which a small first letter marks, need
    not cost the image; libpng passes it over, Pillow refuses the file.
    """
    if not data.startswith(SIGNATURE):
        return data
    kept = [SIGNATURE]
    at = len(SIGNATURE)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind[:1].isupper() or kind == _TRANSPARENCY:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)
