"""The steps that an operation yields, each answered by whoever runs it."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True)
class UnaryCall:
    """One RPC; the answer is the response's bytes."""

    method: str
    request: bytes
    timeout_s: float
    request_id: str


@dataclass(frozen=True)
class Sleep:
    """A pause; there is no answer."""

    seconds: float


@dataclass(frozen=True)
class Gather:
    """Several operations at a time, `concurrency` at most; the answer is the list of their results in order."""

    operations: Iterable[Operation[Any]]
    concurrency: int


Step = UnaryCall | Sleep | Gather
#: A generator that yields steps, is sent their answers (or thrown their errors), and returns its result.
Operation = Generator[Step, Any, _T]
