"""Untrusted XML: decoded here, since expat knows few encodings; document types (DTD) are refused."""

from __future__ import annotations

import codecs
import re
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from shiftproof.errors import BrokenFileError
from shiftproof.io.border import SyntaxFault, convert_errors, show_name

_DECLARATION = re.compile(
    rb"""<\?xml[^>]{0,200}?\sencoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']"""
)

_TEXT_CODECS = re.compile(
    r"utf[-_]?(8|16|32)([-_](le|be|sig))?|ascii|iso8859[-_]\d+|latin[-_]?\d+|cp\d+|windows[-_]\d+"
    r"|gb2312|gbk|gb18030|hz|big5(hkscs)?|cp950|shift_jis(x0213|_2004)?|euc_(jp|jisx0213|jis_2004|kr)"
    r"|iso2022_(jp(_\w+)?|kr)|johab|koi8[-_][rtu]|kz1048|mac[-_]\w+|ptcp154|tis[-_]620"
)
"""Names of Python's text encodings. ``codecs.lookup`` also finds others, such as those of host names
(idna), of escapes, and of bytes to bytes (zlib)."""

_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"}
"""Supersets that files declared with these encodings really use, as in browsers (WHATWG)."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)


def parse_xml(data: bytes, name: str) -> Element:
    """Parse XML that may be hostile: document types are refused, and so all entity bombs.

    Args:
        data: the file, in the encoding that it declares; without a declaration or byte order mark, UTF-8.
        name: its name in messages.

    Raises:
        BrokenFileError: it is not XML, not in the encoding that it declares, declares an unknown encoding,
            or has a document type.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise BrokenFileError(f"{name}: it declares a document type (DTD); remove it.")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    text = _decode(data, name)
    with convert_errors(name, "not valid XML", find_fault=_find_fault):
        # For a decoded text, expat ignores the declared encoding.
        parser.Parse(text, True)
        return builder.close()


def _find_fault(error: Exception) -> SyntaxFault | None:
    if not isinstance(error, expat.ExpatError):
        return None
    # expat counts columns from 0.
    return SyntaxFault(error.lineno, error.offset + 1, expat.ErrorString(error.code))


def _decode(data: bytes, name: str) -> str:
    encoding = _find_encoding(data, name)
    with convert_errors(name, f"not valid XML in the encoding {encoding}"):
        return data.decode(encoding).removeprefix("\ufeff")


def _find_encoding(data: bytes, name: str) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    found = _DECLARATION.match(data)
    if found is None:
        return "utf-8"
    declared = found[1].decode("ascii")
    with convert_errors(name, f"its encoding {show_name(declared)!r} is not known"):
        encoding = codecs.lookup(declared).name
        if not _TEXT_CODECS.fullmatch(encoding):
            raise LookupError("not an encoding of text")
    # The declaration was read in single bytes, so UTF-16 is wrong: some programs declare the encoding
    # that their text had in memory.
    return "utf-8" if re.match(r"utf[-_]?(16|32)", encoding) else _WIDER.get(encoding, encoding)
