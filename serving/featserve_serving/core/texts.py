"""Texts of errors: callers choose how long they get, by the names and values that they send."""

from __future__ import annotations

#: TensorFlow Serving's own limit for gRPC. A status text travels in a header, and clients refuse headers over 8 KiB.
_MAX_BYTES = 1024
_CUT = "...TRUNCATED"


def fit(text: str) -> str:
    """Returns an error's text, cut to 1 KiB."""
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= _MAX_BYTES else raw[:_MAX_BYTES].decode("utf-8", "ignore") + _CUT
