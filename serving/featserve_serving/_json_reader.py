"""JSON as RapidJSON reads it, with its error texts and offsets.

Reference: rapidjson/reader.h and error/en.h of RapidJSON 1.1.0, flags `kParseIterativeFlag`, `kParseNanAndInfFlag` and
`kParseStopWhenDoneFlag`, which are TensorFlow Serving's.
"""

from __future__ import annotations

import json
import re
from typing import Any

#: Python's parser takes this and RapidJSON may not: halves of characters, numbers near the end of a double's range.
_TRICKY = re.compile(rb"\\u[dD][89a-fA-F]|[eE]\+?[0-9]{3}|[0-9]{300}")
#: The careful reader is slow: longer documents that Python's parser refuses are refused.
_MAX_CAREFUL_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_ESCAPED = dict(zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True))
_HEX4 = re.compile(rb"[0-9a-fA-F]{4}")
_DIGITS = re.compile(rb"[0-9]*")
_NUMBER_START = re.compile(rb"0|[1-9][0-9]*")
_LITERALS: dict[int, tuple[bytes, Any]] = {
    ord("n"): (b"null", None),
    ord("t"): (b"true", True),
    ord("f"): (b"false", False),
}
_MAX_EXPONENT = 308

_EMPTY = "The document is empty."
_INVALID_VALUE = "Invalid value."
_NO_NAME = "Missing a name for object member."
_NO_COLON = "Missing a colon after a name of object member."
_NO_COMMA_IN_OBJECT = "Missing a comma or '}' after an object member."
_NO_COMMA_IN_ARRAY = "Missing a comma or ']' after an array element."
_NO_QUOTE = "Missing a closing quotation mark in string."
_BAD_ESCAPE = "Invalid escape character in string."
_TOO_BIG = "Number too big to be stored in double."


class JsonSyntaxError(ValueError):
    """The text is no JSON.

    Attributes:
        reason: RapidJSON's text.
        offset: the byte at which it stopped.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offset = offset


def loads(body: bytes) -> Any:
    """Read the first value of a text; what follows it does not matter.

    Strings hold bytes that are no UTF-8 as surrogates (PEP 383). Of members of one name the first counts.

    Raises:
        JsonSyntaxError: there is no value.
    """
    careful = len(body) <= _MAX_CAREFUL_BYTES
    offset = 0
    if not (careful and _TRICKY.search(body)):
        start = len(_BOM) if body.startswith(_BOM) else 0
        text = body[start:].decode("utf-8", "surrogateescape").lstrip(_SPACE.decode())
        try:
            return _DECODER.raw_decode(text)[0]
        except json.JSONDecodeError as exc:
            rest = text[exc.pos :].encode("utf-8", "surrogateescape")
            offset = len(body) - len(rest)
        except (ValueError, RecursionError):
            pass
    if not careful:
        raise JsonSyntaxError(_INVALID_VALUE, offset)
    return _Reader(body).document()


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        members.setdefault(name, value)
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_first_of_each)


class _Reader:
    def __init__(self, body: bytes) -> None:
        self._body = body + b"\0"  # the end, as RapidJSON sees it
        self._at = 0
        for byte in _BOM:
            self._take(byte)

    def document(self) -> Any:
        self._skip_space()
        if self._peek() in b"\0]},:":
            raise JsonSyntaxError(_EMPTY, self._at)
        root: list[Any] = []
        open_values: list[Any] = [root]
        names: list[str] = [""]
        while open_values:
            self._element(open_values, names)
            if len(open_values) == 1 and root:
                break
        return root[0]

    def _element(self, open_values: list[Any], names: list[str]) -> None:
        """Read a value, or open an array or object, or close the innermost."""
        value = self._opened()
        if value is None:
            self._store(open_values[-1], names[-1], self._scalar())
        else:
            self._store(open_values[-1], names[-1], value)
            open_values.append(value)
            names.append("")
            if self._is_closed_at_once(value, names):
                open_values.pop()
                names.pop()
            else:
                return
        while len(open_values) > 1 and self._closes(open_values[-1], names):
            open_values.pop()
            names.pop()

    def _opened(self) -> Any:
        if self._take(ord("[")):
            return []
        return {} if self._take(ord("{")) else None

    @staticmethod
    def _store(into: Any, name: str, value: Any) -> None:
        if isinstance(into, list):
            into.append(value)
        else:
            into.setdefault(name, value)

    def _is_closed_at_once(self, value: Any, names: list[str]) -> bool:
        self._skip_space()
        if isinstance(value, list):
            if self._take(ord("]")):
                return True
            self._expect_value()
        else:
            if self._take(ord("}")):
                return True
            names[-1] = self._name()
        return False

    def _closes(self, value: Any, names: list[str]) -> bool:
        """Go past what follows a value inside another: its end, or a comma and, in an object, the next name."""
        self._skip_space()
        is_list = isinstance(value, list)
        if self._take(ord("]" if is_list else "}")):
            return True
        if not self._take(ord(",")):
            raise JsonSyntaxError(_NO_COMMA_IN_ARRAY if is_list else _NO_COMMA_IN_OBJECT, self._at)
        self._skip_space()
        if is_list:
            self._expect_value()
        else:
            names[-1] = self._name()
        return False

    def _name(self) -> str:
        if self._peek() != b'"':
            raise JsonSyntaxError(_NO_NAME, self._at)
        name = self._string()
        self._skip_space()
        if not self._take(ord(":")):
            raise JsonSyntaxError(_NO_COLON, self._at)
        self._skip_space()
        self._expect_value()
        return name

    def _expect_value(self) -> None:
        if self._peek() in b"\0]},:":
            raise JsonSyntaxError(_INVALID_VALUE, self._at)

    def _scalar(self) -> Any:
        first = self._body[self._at]
        if first == ord('"'):
            return self._string()
        if first in _LITERALS:
            text, value = _LITERALS[first]
            for byte in text:
                if not self._take(byte):
                    raise JsonSyntaxError(_INVALID_VALUE, self._at)
            return value
        return self._number()

    def _string(self) -> str:
        self._at += 1
        parts = []
        while True:
            parts.append(self._match(_PLAIN))
            byte = self._body[self._at]
            if byte == ord('"'):
                self._at += 1
                return b"".join(parts).decode("utf-8", "surrogateescape")
            if byte != ord("\\"):
                at_end = byte == 0
                reason = "Missing a closing quotation mark in string." if at_end else _BAD_ESCAPE
                raise JsonSyntaxError(reason, self._at)
            parts.append(self._escaped())

    def _escaped(self) -> bytes:
        start = self._at
        self._at += 1
        byte = self._body[self._at]
        self._at += 1
        if byte in _ESCAPED:
            return bytes([_ESCAPED[byte]])
        if byte != ord("u"):
            raise JsonSyntaxError(_BAD_ESCAPE, start)
        code = self._hex4(start)
        if 0xD800 <= code <= 0xDBFF:
            paired = self._take(ord("\\")) and self._take(ord("u"))
            low = self._hex4(start) if paired else 0
            if not 0xDC00 <= low <= 0xDFFF:
                raise JsonSyntaxError("The surrogate pair in string is invalid.", start)
            code = ((code - 0xD800) << 10 | (low - 0xDC00)) + 0x10000
        return chr(code).encode("utf-8", "surrogatepass")

    def _hex4(self, start: int) -> int:
        found = _HEX4.match(self._body, self._at)
        if found is None:
            raise JsonSyntaxError("Incorrect hex digit after \\u escape in string.", start)
        self._at = found.end()
        return int(found[0], 16)

    def _number(self) -> int | float:
        start = self._at
        negative = self._take(ord("-"))
        if self._peek() in b"IN":
            return -self._not_finite() if negative else self._not_finite()
        whole = self._match(_NUMBER_START)
        if not whole:
            raise JsonSyntaxError(_INVALID_VALUE, self._at)
        fraction = exponent = b""
        if is_float := self._take(ord(".")):
            fraction = self._match(_DIGITS)
            if not fraction:
                raise JsonSyntaxError("Miss fraction part in number.", self._at)
        if self._take(ord("e")) or self._take(ord("E")):
            is_float = True
            up = not self._take(ord("-"))
            if up:
                self._take(ord("+"))
            exponent = self._match(_DIGITS)
            if not exponent:
                raise JsonSyntaxError("Miss exponent in number.", self._at)
            if up and int(exponent[-9:]) > _MAX_EXPONENT + len(fraction):
                raise JsonSyntaxError(_TOO_BIG, start)
        if len(whole) > _MAX_EXPONENT:
            raise JsonSyntaxError(_TOO_BIG, start)
        text = self._body[start : self._at].decode("ascii")
        return float(text) if is_float else int(text)

    def _not_finite(self) -> float:
        name = b"NaN" if self._peek() == b"N" else b"Inf"
        for byte in name:
            if not self._take(byte):
                raise JsonSyntaxError(_INVALID_VALUE, self._at)
        if name == b"NaN":
            return float("nan")
        if self._peek() == b"i":
            for byte in b"inity":
                if not self._take(byte):
                    raise JsonSyntaxError(_INVALID_VALUE, self._at)
        return float("inf")

    def _peek(self) -> bytes:
        return self._body[self._at : self._at + 1]

    def _take(self, byte: int) -> bool:
        if self._body[self._at] != byte:
            return False
        self._at += 1
        return True

    def _match(self, pattern: re.Pattern[bytes]) -> bytes:
        found = pattern.match(self._body, self._at)
        if found is None:
            return b""
        self._at = found.end()
        return found[0]

    def _skip_space(self) -> None:
        while self._body[self._at] in _SPACE:
            self._at += 1
