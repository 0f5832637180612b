"""The part of Thrift's compact protocol that the footers of Parquet files use."""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

Fields: TypeAlias = dict[int, Any]
"""A struct: the number of each field to its value, structs and lists within it too."""

_MAX_DEPTH = 32
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 10, 11, 12
_INTEGERS, _LISTS = (4, 5, 6), (9, _SET)


def read_struct(data: bytes) -> Fields:
    """Return the struct that ``data`` begins with.

    Never holds more values than ``data`` has bytes. The protocol is described in Apache Thrift's
    "Thrift compact protocol encoding".

    Raises:
        ValueError: it is no such struct, ends early, or is nested deeper than 32 levels.
    """
    return _Reader(data).struct(0)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self, depth: int) -> Fields:
        if depth > _MAX_DEPTH:
            raise ValueError(f"nested deeper than {_MAX_DEPTH} levels")
        fields: Fields = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            fields[number] = kind == _TRUE if kind <= _FALSE else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return self._integer()
        if kind == _BINARY:
            return self._take(self._count())
        if kind in _LISTS:
            return self._list(depth)
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_TRUE, _FALSE, _BYTE):  # as a list has them
            return self._byte()
        if kind == _DOUBLE:
            return struct.unpack("<d", self._take(8))[0]
        if kind == _MAP:
            return self._map(depth)
        raise ValueError(f"a value of the unknown kind {kind}")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = self._count() if head >> 4 == 15 else head >> 4
        self._check_left(count)
        return [self._value(head & 15, depth + 1) for _ in range(count)]

    def _map(self, depth: int) -> list[tuple[Any, Any]]:
        count = self._count()
        if count == 0:
            return []
        self._check_left(count)
        kinds = self._byte()
        return [
            (self._value(kinds >> 4, depth + 1), self._value(kinds & 15, depth + 1))
            for _ in range(count)
        ]

    def _integer(self) -> int:
        value = self._count()
        return (value >> 1) ^ -(value & 1)

    def _count(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number of more than 64 bits")

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, count: int) -> bytes:
        self._check_left(count)
        self._at += count
        return self._data[self._at - count : self._at]

    def _check_left(self, count: int) -> None:
        if count > len(self._data) - self._at:
            raise ValueError("it ends early")
