"""The JSON document of a request, as RapidJSON reads it for TensorFlow Serving."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import rapidjson

from ..errors import InvalidArgument
from . import numbers

#: A number of a few bytes takes 10 times as much once it is an object, and time in which nothing else runs.
MAX_VALUES = 4 << 20
_BOM = b"\xef\xbb\xbf"
_MORE = re.compile(r"Parse error at offset (\d+): The document root must not be followed by other values")


@dataclass(frozen=True, kw_only=True)
class JsonRequest:
    """A parsed request; `instances`, `inputs` or an input may be `Numbers` instead of lists."""

    document: dict[str, Any]
    signature_name: str


def parse(body: bytes) -> JsonRequest:
    """Parses a request's body.

    Raises:
        InvalidArgument: the body is no JSON object, has too many values, or its `signature_name` is no string.
    """
    if body.count(b",") >= MAX_VALUES:
        raise InvalidArgument(f"The request has more than {MAX_VALUES} values: send fewer at once, or tensors by gRPC")
    if not body:
        raise InvalidArgument("JSON Parse error: The document is empty")
    document = _with_numbers(body) or lists(body)
    if not isinstance(document, dict):
        raise InvalidArgument(f"The request is no JSON object but JSON {type_name(document)}")
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidArgument("'signature_name' key must be a string value.")
    return JsonRequest(document=document, signature_name=name)


class _Decoder(rapidjson.Decoder):
    """Reads objects as TensorFlow Serving does: of members of one name the first counts."""

    def start_object(self) -> list[tuple[str, Any]]:
        return []

    def end_object(self, members: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(reversed(members))


_DECODER = _Decoder(number_mode=rapidjson.NM_NATIVE | rapidjson.NM_NAN)


def _with_numbers(body: bytes) -> dict[str, Any] | None:
    """Reads a document whose only array holds its numbers; `None` if it is none, or a closer look is needed."""
    if (parts := numbers.cut(body)) is None:
        return None
    before, array, after = parts
    try:
        document = lists(before + b"[]" + after)
    except InvalidArgument:  # whose offset is that of a shorter text
        return None
    if not isinstance(document, dict):
        return None
    places = [(document, "instances"), (document, "inputs")]
    if isinstance(document.get("inputs"), dict):
        places += [(document["inputs"], name) for name in document["inputs"]]
    for members, name in places:
        if members.get(name) == []:
            members[name] = array
            return document
    return None


def lists(body: bytes) -> Any:
    """Reads the first value of a UTF-8 text; whatever follows the value is passed over.

    Raises:
        InvalidArgument: the text does not begin with a JSON value.
    """
    text = body.removeprefix(_BOM)
    try:
        try:
            return _DECODER(text)
        except rapidjson.JSONDecodeError as exc:
            if (more := _MORE.match(str(exc))) is None:
                raise
            return _DECODER(text[: int(more[1])])
    except (rapidjson.JSONDecodeError, RecursionError) as exc:
        raise InvalidArgument(f"JSON {exc}") from exc
    except UnicodeDecodeError as exc:
        raise InvalidArgument("JSON Parse error: The text is not UTF-8.") from exc


def type_name(value: Any) -> str:
    """Returns JSON's name for the type of a value, as TensorFlow Serving spells it."""
    if isinstance(value, bool):
        return str(value)
    names = {type(None): "Null", dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
    return names[type(value)]
