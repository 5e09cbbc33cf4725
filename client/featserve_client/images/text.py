"""Texts given as images that are no paths: data URIs, which are decoded, and addresses and base64, which are named."""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote_to_bytes

from ..exceptions import InvalidImageError

_DATA_URI = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?P<base64>(?:;[^,;]*)*?;base64)?(?:;[^,;]*)*,", re.IGNORECASE)
_URL = re.compile(r"(?:https?|ftp|s3|gs|az|file)://", re.IGNORECASE)
# How base64 of a JPEG, PNG, GIF, WebP and BMP begins; a path of such a beginning is shorter.
_BASE64 = re.compile(r"(?:/9j/|iVBORw0KGgo|R0lGOD|UklGR|Qk)[A-Za-z0-9+/=\s_-]{200}")
#: The longest path that Linux takes.
_PATH_MAX = 4096
_SHOWN = 60


def shorten(text: str) -> str:
    """Returns a text as errors show it: whole if it may be a path, else its beginning and its length."""
    if len(text) <= _SHOWN or not (len(text) > _PATH_MAX or _DATA_URI.match(text) or _BASE64.match(text)):
        return text
    return f"{text[:_SHOWN]}… ({len(text)} characters)"


def is_data_uri(text: str) -> bool:
    """Whether a text is a data URI."""
    return _DATA_URI.match(text) is not None


def decode_data_uri(source: str, text: str) -> bytes:
    """Returns the bytes that a data URI holds.

    Raises:
        InvalidImageError: the text is no data URI, or its base64 cannot be decoded.
    """
    found = _DATA_URI.match(text)
    if found is None:
        raise InvalidImageError(source, "is no data URI")
    data = unquote_to_bytes(text[found.end() :])
    if not found["base64"]:
        return data
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as exc:
        raise InvalidImageError(source, f"is a data URI whose base64 cannot be decoded: {exc}") from exc


def check_path(source: str, text: str) -> None:
    """Refuses a text that cannot be meant as a path.

    Raises:
        InvalidImageError: the text is the address of a file elsewhere, or base64, or longer than any path; the error
            says what to pass instead.
    """
    if _URL.match(text):
        raise InvalidImageError(source, "is a URL, not a path: fetch the file and pass its bytes")
    if _BASE64.match(text):
        raise InvalidImageError(source, "is base64, not a path: pass the bytes, base64.b64decode(text)")
    if len(text) > _PATH_MAX:
        raise InvalidImageError(source, "is longer than any path: pass an image as bytes, a path, PIL image or array")
