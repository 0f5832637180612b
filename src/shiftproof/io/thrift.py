"""The part of Thrift's compact protocol that the footers of Parquet files use."""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

Fields: TypeAlias = dict[int, Any]
"""A struct: the value of each field by its number; nested structs and lists likewise."""

_MAX_DEPTH = 32
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 10, 11, 12
_INTEGERS, _LISTS = (4, 5, 6), (9, _SET)


def read_struct(data: bytes) -> Fields:
    """Return the struct at the beginning of ``data``.

    It has at most as many values as ``data`` has bytes. The protocol is described in Apache Thrift's
    "Thrift compact protocol encoding".

    Raises:
        ValueError: not such a struct, ends early, or is nested deeper than 32 levels.
    """
    return _Reader(data).read_struct(0)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def read_struct(self, depth: int) -> Fields:
        if depth > _MAX_DEPTH:
            raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")
        fields: Fields = {}
        number = 0
        while header := self._read_byte():
            step, kind = header >> 4, header & 15
            number = number + step if step else self._read_integer()
            fields[number] = kind == _TRUE if kind <= _FALSE else self._read_value(kind, depth)
        return fields

    def _read_value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            value = self._read_count()
            return (value >> 1) ^ -(value & 1)
        if kind == _BINARY:
            return self._read_bytes(self._read_count())
        if kind in _LISTS:
            return self._read_list(depth)
        if kind == _STRUCT:
            return self.read_struct(depth + 1)
        if kind in (_TRUE, _FALSE, _BYTE):  # in lists, also truth values take a byte
            return self._read_byte()
        if kind == _DOUBLE:
            return struct.unpack("<d", self._read_bytes(8))[0]
        if kind == _MAP:
            return self._read_map(depth)
        raise ValueError(f"a value of the unknown kind {kind}")

    def _read_list(self, depth: int) -> list[Any]:
        header = self._read_byte()
        count = self._read_count() if header >> 4 == 15 else header >> 4
        self._check_left(count)
        return [self._read_value(header & 15, depth + 1) for _ in range(count)]

    def _read_map(self, depth: int) -> list[tuple[Any, Any]]:
        count = self._read_count()
        if count == 0:
            return []
        self._check_left(count)
        kinds = self._read_byte()
        return [
            (self._read_value(kinds >> 4, depth + 1), self._read_value(kinds & 15, depth + 1))
            for _ in range(count)
        ]

    def _read_integer(self) -> int:
        value = self._read_count()
        return (value >> 1) ^ -(value & 1)

    # A footer has a thousand numbers, nearly all of one byte; most of the time goes into these two.

    def _read_count(self) -> int:
        value = self._read_byte()
        if value < 128:
            return value
        value &= 127
        for shift in range(7, 70, 7):
            byte = self._read_byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number of more than 64 bits")

    def _read_byte(self) -> int:
        position = self._position
        if position == len(self._data):
            raise ValueError("it ends early")
        self._position = position + 1
        return self._data[position]

    def _read_bytes(self, count: int) -> bytes:
        self._check_left(count)
        self._position += count
        return self._data[self._position - count : self._position]

    def _check_left(self, count: int) -> None:
        if count > len(self._data) - self._position:
            raise ValueError("it ends early")
