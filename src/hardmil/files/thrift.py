"""Structs in the compact protocol of Thrift, which the headers of Parquet files are written in."""

from typing import Any

MAX_DEPTH = 12
"""Most structs and lists inside each other. Parquet has 7."""
_TRUE, _FALSE, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _STRUCT = 1, 2, 3, (4, 5, 6), 7, 8, (9, 10), 12
"""Types of the protocol. Maps (11) are not read."""


class ThriftError(Exception):
    """A struct that cannot be read; the message follows "has a header that"."""


def read_struct(content: bytes) -> tuple[dict[int, Any], int]:
    """The fields of the struct at the beginning by their numbers, and its length in bytes.

    Numbers are int, texts bytes, lists list, structs dict. Other numbers than whole ones are None.

    Raises:
        ThriftError: If it cannot be read.

    Source: "Thrift compact protocol encoding", Apache Thrift.
    """
    try:
        return _struct(content, 0, depth=0)
    except IndexError:
        raise ThriftError("is cut") from None


def _struct(content: bytes, at: int, *, depth: int) -> tuple[dict[int, Any], int]:
    """The fields of a struct, and the position after it."""
    fields: dict[int, Any] = {}
    field = 0
    while content[at]:
        kind, step = content[at] & 15, content[at] >> 4
        at += 1
        if step:
            field += step
        else:
            field, at = _integer(content, at)
        if kind in (_TRUE, _FALSE):
            fields[field] = kind == _TRUE
        else:
            fields[field], at = _value(content, at, kind, depth=depth + 1)
    return fields, at + 1


def _value(content: bytes, at: int, kind: int, *, depth: int) -> tuple[Any, int]:
    if depth > MAX_DEPTH:
        raise ThriftError("has too many levels")
    if kind in (_TRUE, _FALSE, _BYTE):
        return content[at], at + 1
    if kind in _INTEGERS:
        return _integer(content, at)
    if kind == _DOUBLE:
        return None, at + 8
    if kind == _BINARY:
        length, at = _varint(content, at)
        return content[at : at + length], at + length
    if kind in _LISTS:
        return _list(content, at, depth=depth)
    if kind == _STRUCT:
        return _struct(content, at, depth=depth)
    raise ThriftError(f"has a field of type {kind}")


def _list(content: bytes, at: int, *, depth: int) -> tuple[list[Any], int]:
    n, kind = content[at] >> 4, content[at] & 15
    at += 1
    if n == 15:
        n, at = _varint(content, at)
    found: list[Any] = []
    for _ in range(n):
        one, at = _value(content, at, kind, depth=depth + 1)
        found.append(one)
    return found, at


def _integer(content: bytes, at: int) -> tuple[int, int]:
    """A signed number: zigzag, then 7 bits a byte."""
    number, at = _varint(content, at)
    return number >> 1 ^ -(number & 1), at


def _varint(content: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        number |= (content[at] & 127) << shift
        at += 1
        if content[at - 1] < 128:
            return number, at
    raise ThriftError("has a number of more than ten bytes")
