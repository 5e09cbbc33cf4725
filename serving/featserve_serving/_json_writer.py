"""JSON text exactly as RapidJSON's pretty writer lays it out."""

from __future__ import annotations

import json
import re
from typing import Any

#: Python writes these with small letters.
_LETTERED = re.compile(r"[\x0b\x0e\x0f\x1a-\x1f]")
_ESCAPES = {code: f"\\u{code:04X}" for code in range(0x20)} | {
    ord(char): f"\\{name}" for char, name in zip('"\\\b\f\n\r\t', '"\\bfnrt', strict=True)
}


class Writer:
    """Writes JSON with line breaks and four spaces, or with arrays on one line.

    Args:
        single_line: begin with arrays on one line.
        max_chars: bound at which `is_full` becomes true.
    """

    def __init__(self, *, single_line: bool = False, max_chars: int | None = None) -> None:
        self.single_line = single_line
        self._parts: list[str] = []
        self._levels: list[list[Any]] = []  # [bracket, number of values]
        self._left = max_chars

    def is_full(self) -> bool:
        """Whether the bound is reached."""
        return self._left is not None and self._left <= 0

    def cut(self) -> None:
        """End here, as RapidJSON does at a number that it cannot write: what is open stays open."""
        self._prefix()
        self._left = 0

    def text(self) -> str:
        """Return what was written."""
        return "".join(self._parts)

    def start(self, bracket: str) -> None:
        """Open an array or an object."""
        self._prefix()
        self._put(bracket)
        self._levels.append([bracket, 0])

    def end(self, bracket: str) -> None:
        """Close it."""
        _, count = self._levels.pop()
        if count and not (self.single_line and bracket == "]"):
            self._put("\n" + " " * 4 * len(self._levels))
        self._put(bracket)

    def value(self, text: str) -> None:
        """Write a key or a value that is JSON already."""
        self._prefix()
        self._put(text)

    def row(self, values: list[str]) -> None:
        """Write the values of an array's last dimension."""
        if self.single_line:
            self.value("[" + ", ".join(values) + "]")
            return
        self.start("[")
        for text in values:
            self.value(text)
        self.end("]")

    def _prefix(self) -> None:
        if not self._levels:
            return
        level = self._levels[-1]
        bracket, count = level
        level[1] += 1
        if bracket == "[":
            comma = "," if count else ""
            if self.single_line:
                self._put(comma + " " if count else "")
            else:
                self._put(comma + "\n" + " " * 4 * len(self._levels))
        elif count % 2:
            self._put(": ")
        else:
            self._put(("," if count else "") + "\n" + " " * 4 * len(self._levels))

    def _put(self, text: str) -> None:
        self._parts.append(text)
        if self._left is not None:
            self._left -= len(text.encode("utf-8", "surrogateescape"))


def quoted(text: str) -> str:
    """Return a string as JSON."""
    return f'"{text.translate(_ESCAPES)}"' if _LETTERED.search(text) else json.dumps(text, ensure_ascii=False)
