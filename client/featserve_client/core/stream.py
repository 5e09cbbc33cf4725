"""The bookkeeping of `extract_iter`: what to read, what to send, what to hand out, and how much of each at a time."""

from __future__ import annotations

import copy
import os
import random
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..exceptions import (
    ConfigError,
    FeatserveError,
    InvalidRequest,
    MessageTooLarge,
    ResponseError,
    ServerOverloaded,
    TransportError,
)
from ..images.inputs import Image
from ..model.metadata import ModelMetadata, choose
from .planner import Cutter, Piece, Plan, Planner, Sleep

OnError = Literal["raise", "return"]

#: Seconds for which a stream bears with a server that is away or overloaded, since it last answered.
PATIENCE_S = 60.0
#: Inputs read ahead of the requests, and about how many bytes of them.
READ_AHEAD = 64
READ_AHEAD_BYTES = 64 * 2**20
#: Threads that read files and, with `decode="client"`, decode them.
READERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """One image of a stream: its features, or the error that it met."""

    #: Its place in the input.
    index: int
    #: Its path, or `image N`.
    source: str
    #: An array for each layer, without the batch dimension; empty if there is an error.
    features: Mapping[str, npt.NDArray[np.float32]]
    error: FeatserveError | None
    #: The model's version that answered; 0 if none did.
    version: int


class Window:
    """How many requests are in flight: more while that makes them no slower, half as many when the server refuses.

    The idea is TCP Vegas': with the time of an unhindered request known, the time of the others tells how many of
    those in flight wait in a queue; two to four keep the server busy.
    """

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ConfigError(f"concurrency must be at least 1, not {most}")
        self._most = most
        self.limit = min(2, most)
        self._fastest_s = float("inf")

    def grow(self, seconds_per_image: float) -> None:
        """Learn from an answer."""
        self._fastest_s = min(self._fastest_s, seconds_per_image)
        waiting = self.limit * (1 - self._fastest_s / max(seconds_per_image, 1e-9))
        if waiting < 2:
            self.limit = min(self.limit + 1, self._most)
        elif waiting > 4:
            self.limit = max(self.limit - 1, min(2, self._most))

    def shrink(self) -> None:
        """Learn from a refusal."""
        self.limit = max(self.limit // 2, 1)


class Stream:
    """Takes inputs in order, gives out pieces to send, takes their answers, gives out results."""

    def __init__(
        self,
        planner: Planner,
        known: ModelMetadata,
        layers: Sequence[str] | None,
        *,
        concurrency: int,
        ordered: bool,
        on_error: OnError,
        timeout_s: float | None,
    ) -> None:
        self._planner = planner
        self._layers = layers
        self._ordered = ordered
        self._on_error = on_error
        self._timeout_s = timeout_s
        self._cutter = Cutter(planner.limits, lambda image: choose(known, image.kind, layers).row_bytes)
        self._pieces: deque[Piece] = deque()
        self._ready: dict[int, Extracted] = {}
        self._in_flight = 0
        self._taken = 0
        self._given = 0
        self._image_bytes = READ_AHEAD_BYTES / 8  # little is read ahead before it is known how large they are
        self._most_rows = 2 * concurrency * planner.limits.max_request_images
        self._last_answer = time.monotonic()
        self.window = Window(concurrency)
        self.input_ended = False
        self.closed = False

    @property
    def room(self) -> int:
        """Inputs that may be read now: results that wait for their turn, or for the caller, count against it."""
        ahead = max(1, min(READ_AHEAD, READ_AHEAD_BYTES // max(int(self._image_bytes), 1)))
        if self.input_ended or len(self._pieces) > min(self.window.limit, ahead):
            return 0
        return min(ahead, self._most_rows - (self._taken - self._given))

    @property
    def finished(self) -> bool:
        """Whether everything has been given out."""
        return self.input_ended and self._taken == self._given

    def add(self, source: str, images: list[Image] | FeatserveError) -> None:
        """Take what came of one input."""
        if isinstance(images, FeatserveError):
            self._taken += 1
            self._fail(source, images)
            return
        for image in images:
            self._taken += 1
            self._image_bytes = max(image.nbytes, 0.95 * self._image_bytes)
            try:
                self._pieces.extend(self._cutter.add(image))
            except InvalidRequest as exc:  # the model takes no images of this kind
                self._fail(image.source, exc)

    def _fail(self, source: str, error: FeatserveError) -> None:
        result = _failed(self._cutter.skip(), source, error)
        self._ready[result.index] = result

    def take(self) -> Piece | None:
        """Return what to send next, None while enough is in flight."""
        if not self._pieces and (self.room <= 0 or self._in_flight == 0):
            self._pieces.extend(self._cutter.rest())
        if not self._pieces or self._in_flight >= self.window.limit:
            return None
        self._in_flight += 1
        return self._pieces.popleft()

    def ask(self, piece: Piece) -> Plan[list[Extracted]]:
        """Send a piece and return what came of each image: a refusal is narrowed down to the image that caused it."""
        start = time.monotonic()
        results = yield from self._ask(piece)
        self.window.grow((time.monotonic() - start) / len(piece.images))
        return results

    def sent(self, results: Iterable[Extracted]) -> None:
        """Take what came of a piece."""
        self._in_flight -= 1
        for result in results:
            self._ready[result.index] = result

    def pop(self) -> Iterator[Extracted]:
        """Yield the results whose turn it is.

        Raises:
            FeatserveError: An image's error, if errors are to be raised.
        """
        while self._ready:
            index = self._given if self._ordered else next(iter(self._ready))
            if index not in self._ready:
                return
            result = self._ready.pop(index)
            self._given += 1
            if result.error is not None and self._on_error == "raise":
                raise result.error
            yield result

    def _ask(self, piece: Piece) -> Plan[list[Extracted]]:
        pause_s = 0.1
        while True:
            try:
                rows = yield from self._planner.piece(piece, self._layers, self._timeout_s)
            except (InvalidRequest, MessageTooLarge, ResponseError) as exc:
                self._last_answer = time.monotonic()
                if len(piece.images) == 1:
                    return [_failed(piece.places[0], piece.images[0].source, exc)]
                half = len(piece.images) // 2
                results = yield from self._ask(Piece(piece.places[:half], piece.images[:half]))
                return results + (yield from self._ask(Piece(piece.places[half:], piece.images[half:])))
            except (TransportError, ServerOverloaded):
                self.window.shrink()
                if self.closed or time.monotonic() > self._last_answer + PATIENCE_S:
                    raise
                yield Sleep(pause_s * (0.5 + random.random() / 2))  # noqa: S311
                pause_s = min(pause_s * 2, 2.0)
            else:
                self._last_answer = time.monotonic()
                return [
                    Extracted(
                        index=place,
                        source=image.source,
                        features={layer: array[row].copy() for layer, array in rows.outputs.items()},
                        error=None,
                        version=rows.version,
                    )
                    for row, (place, image) in enumerate(zip(piece.places, piece.images, strict=True))
                ]


def check_stream(concurrency: int, on_error: str) -> None:
    """Refuse arguments before anything is read."""
    Window(concurrency)
    if on_error not in ("raise", "return"):
        raise ConfigError(f"on_error must be 'raise' or 'return', not {on_error!r}")


def _failed(index: int, source: str, error: FeatserveError) -> Extracted:
    text = str(error)
    if not text.startswith(source):
        named = copy.copy(error)
        named.args = (f"{source}: {text}",)
        named.__cause__, error = error, named
    return Extracted(index=index, source=source, features={}, error=error, version=0)
