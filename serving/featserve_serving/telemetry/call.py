"""A call, whichever protocol brought it."""

from __future__ import annotations

import contextlib
import contextvars
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

REQUEST_ID = "x-request-id"
_MAX_ID_CHARS = 128


@dataclass(kw_only=True)
class Call:
    """The facts about a call; the handlers fill in the model as they find it."""

    method: str
    entrypoint: str
    request_id: str
    headers: dict[str, str] = field(default_factory=dict)
    model: str = ""
    version: int | None = None
    signature: str = ""
    runtime_s: float | None = None


_CURRENT: contextvars.ContextVar[Call | None] = contextvars.ContextVar("featserve_call", default=None)


@contextlib.contextmanager
def working_on(call: Call) -> Iterator[None]:
    """Makes this call the current one of this thread."""
    token = _CURRENT.set(call)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_call() -> Call | None:
    """Returns the call that this thread works on."""
    return _CURRENT.get()


def request_id_of(headers: Iterable[tuple[str, str | bytes]]) -> str:
    """Returns the caller's own id, if it is a decent one, else a new one."""
    for key, value in headers:
        if key == REQUEST_ID and isinstance(value, str) and 0 < len(value) <= _MAX_ID_CHARS:
            if value.isascii() and value.isprintable():
                return value
    return uuid.uuid4().hex
