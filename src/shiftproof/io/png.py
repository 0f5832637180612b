"""PNG files with damaged metadata: dropping the chunks that the pixels do not need."""

from __future__ import annotations

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_TRANSPARENCY = b"tRNS"


def drop_metadata(data: bytes) -> bytes:
    """Return a PNG file without the chunks that its pixels do not need; other bytes unchanged.

    By the PNG specification (13.1) an image with a damaged ancillary chunk, whose first letter is
    lower case, can still be decoded; libpng ignores the chunk, Pillow refuses the file.
    """
    if not data.startswith(SIGNATURE):
        return data
    chunks = [SIGNATURE]
    start = len(SIGNATURE)
    while start < len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        kind = data[start + 4 : start + 8]
        if kind[:1].isupper() or kind == _TRANSPARENCY:
            chunks.append(data[start:end])
        start = end
    return b"".join(chunks)
