"""Untrusted XML: decoded here, since expat knows few encodings; document types are refused."""

from __future__ import annotations

import codecs
import re
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from shiftproof.errors import BrokenFileError
from shiftproof.io.border import convert_errors, show_name

_DECLARATION = re.compile(
    rb"""<\?xml[^>]{0,200}?\sencoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']"""
)

_TEXT_CODECS = re.compile(
    r"utf[-_]?(8|16|32)([-_](le|be|sig))?|ascii|iso8859[-_]\d+|latin[-_]?\d+|cp\d+|windows[-_]\d+"
    r"|gb2312|gbk|gb18030|hz|big5(hkscs)?|cp950|shift_jis(x0213|_2004)?|euc_(jp|jisx0213|jis_2004|kr)"
    r"|iso2022_(jp(_\w+)?|kr)|johab|koi8[-_][rtu]|kz1048|mac[-_]\w+|ptcp154|tis[-_]620"
)
"""Python's encodings of text by their own names; it has others under the same roof, such as those of
host names (idna), of escapes, and of bytes to bytes (zlib)."""

_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}
"""Supersets of encodings that files with these labels really use, as in browsers (WHATWG)."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)


def parse_xml(data: bytes, where: str) -> Element:
    """Parse XML that may be hostile: a document type is refused, and with it every entity bomb.

    Args:
        data: the file, in whatever encoding it names; without a name and a mark, UTF-8.
        where: what to call it in messages.

    Raises:
        BrokenFileError: it is no XML, is not in the encoding that it names, names an encoding that is
            not known, or declares a document type.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise BrokenFileError(f"{where}: it declares a document type (DTD); remove it.")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    text = _decode(data, where)
    with convert_errors(where, "not valid XML"):
        # What the text says of its encoding has no effect then.
        parser.Parse(text, True)
        return builder.close()


def _decode(data: bytes, where: str) -> str:
    name = _find_encoding(data, where)
    with convert_errors(where, f"not valid XML in the encoding {name}"):
        return data.decode(name).removeprefix("\ufeff")


def _find_encoding(data: bytes, where: str) -> str:
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    found = _DECLARATION.match(data)
    if found is None:
        return "utf-8"
    declared = found[1].decode("ascii")
    with convert_errors(where, f"its encoding {show_name(declared)!r} is not known"):
        name = codecs.lookup(declared).name
        if not _TEXT_CODECS.fullmatch(name):
            raise LookupError("no encoding of text")
    # The name stands there in single bytes, so the rest does, too: some programs write the encoding
    # that their text had in memory.
    return "utf-8" if re.match(r"utf[-_]?(16|32)", name) else _WIDER.get(name, name)
