"""JSON as TensorFlow Serving reads it: RapidJSON, with its error texts and offsets."""

from __future__ import annotations

import re
from typing import Any

import rapidjson

_BOM = b"\xef\xbb\xbf"
_ERROR = re.compile(r"Parse error at offset (\d+): (.*)", re.DOTALL)
_MORE = "The document root must not be followed by other values."
#: Texts that RapidJSON has changed since its release 1.1.0, which TensorFlow Serving is built with.
_TEXTS_OF_1_1_0 = {"Invalid encoding in string.": "Invalid escape character in string."}


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


class _Decoder(rapidjson.Decoder):
    """Of members of one name the first counts."""

    def start_object(self) -> list[tuple[str, Any]]:
        return []

    def end_object(self, members: list[tuple[str, Any]]) -> dict[str, Any]:
        first: dict[str, Any] = {}
        for name, value in members:
            first.setdefault(name, value)
        return first


_DECODER = _Decoder(number_mode=rapidjson.NM_NATIVE | rapidjson.NM_NAN)


def loads(body: bytes) -> Any:
    """Read the first value of a UTF-8 text; what follows it does not matter.

    Raises:
        JsonSyntaxError: there is no value.
    """
    start = len(_BOM) if body.startswith(_BOM) else 0
    text = body[start:]
    try:
        return _DECODER(text)
    except UnicodeDecodeError:
        raise JsonSyntaxError("The text is not UTF-8.", start + _valid_utf8(text)) from None
    except (rapidjson.JSONDecodeError, RecursionError) as exc:
        found = _ERROR.fullmatch(str(exc))
        if found is None:
            raise
        offset, reason = int(found[1]), found[2]
    if reason == _MORE:
        return _DECODER(text[:offset])
    raise JsonSyntaxError(_TEXTS_OF_1_1_0.get(reason, reason), start + offset)


def _valid_utf8(text: bytes) -> int:
    try:
        text.decode()
    except UnicodeDecodeError as exc:
        return exc.start
    return len(text)
