"""An array of numbers in a request's text, read without an object for each number."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import simdjson

#: What an array of numbers is written with besides brackets and commas.
_NUMBERS = b"0123456789+-.eE \t\r\n"
_MAX_RANK = 8
_MAX_OBJECTS = 4096
_HUGE = re.compile(rb"[eE]\+?\d{3}")
#: How a list of objects begins whose first member is a number or a list; its name needs no unescaping.
_ROWS = re.compile(rb'\[\s*\{\s*("[ !#-\[\]-~]+")\s*:\s*[\[\d-]')


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Numbers in lists that have one length on each level.

    Attributes:
        text: the lists as they were sent.
        shape: the lengths, outermost first.
        floats: the numbers in order, float64, each the nearest to its text.
        name: that of the only member that each item is an object of, as in `[{"images": 1}, {"images": 2}]`, if any.
    """

    text: bytes
    shape: tuple[int, ...]
    floats: np.ndarray[Any, Any]
    name: str | None
    _parsed: Any

    def integers(self) -> np.ndarray[Any, Any] | None:
        """Returns the numbers in order, int64; `None` if one is written as a fraction, or is too large."""
        try:
            return np.frombuffer(self._parsed.as_buffer(of_type="i"), np.int64)
        except (TypeError, ValueError):
            return None


def cut(text: bytes) -> tuple[bytes, Numbers, bytes] | None:
    """Returns a document's only array, which is one of numbers, and what stands before and after it.

    `None` means that the document has to be read as any other.
    """
    start, end = text.find(b"["), text.rfind(b"]") + 1
    rows = _ROWS.match(text, start)
    if rows is None and text.find(b'"', start, end) >= 0:  # strings, as images in base64 are
        return None
    array = text[start:end]
    bare = array if rows is None else _values(array, rows[1])
    name = None if rows is None else rows[1][1:-1].decode()
    shape = _shape(bare.translate(None, _NUMBERS))
    if shape is None or _huge(bare):
        return None
    try:
        parsed: Any = simdjson.Parser().parse(bare)
        floats = np.frombuffer(parsed.as_buffer(of_type="d"), np.float64)
    except (RuntimeError, TypeError, ValueError):
        return None
    if len(floats) != np.prod(shape):
        return None
    return text[:start], Numbers(text=array, shape=shape, floats=floats, name=name, _parsed=parsed), text[end:]


def _values(rows: bytes, name: bytes) -> bytes:
    """Returns a list of objects of one member of that name as the list of its values; another list as it is."""
    items = rows.count(b"{")
    if items > _MAX_OBJECTS:
        return rows
    nameless = re.sub(rb"\{\s*" + re.escape(name) + rb"\s*:", b"{", rows)
    outline = nameless.translate(None, _NUMBERS)
    item = outline[1 : outline.find(b"}") + 1] + b","
    if len(outline) != items * len(item) + 1 or outline != b"[" + (item * items)[:-1] + b"]":
        return rows
    return nameless.translate(None, b"{}")


def _huge(array: bytes) -> bool:
    """Whether a number has an exponent that RapidJSON refuses even of a zero."""
    return (b"e" in array or b"E" in array) and _HUGE.search(array) is not None


def _shape(brackets: bytes) -> tuple[int, ...] | None:
    """Returns the lengths of lists, given their brackets and commas alone; `None` if they differ within a level."""
    rank = len(brackets) - len(brackets.lstrip(b"["))
    if rank > _MAX_RANK:
        return None
    lengths: list[int] = []
    item = b""
    for level in range(1, rank + 1):  # innermost first: a level's first list ends with the first `level` brackets
        inside = brackets.find(b"]" * level) + level - 1 - (rank + 1 - level)
        lengths.insert(0, max(0, (inside + 1) // (len(item) + 1)))
        item = b"[" + ((item + b",") * lengths[0])[:-1] + b"]"
    return tuple(lengths) if lengths and item == brackets else None
