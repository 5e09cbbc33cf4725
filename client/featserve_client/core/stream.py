"""The state of one `extract_iter`: what to read, what to send, what to give out, and how much of each at a time."""

from __future__ import annotations

import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    reworded,
)
from ..images.inputs import Image
from ..model.metadata import ModelMetadata
from .batching import ImageBatch
from .congestion import CongestionWindow
from .extraction import Extractor
from .steps import Operation, Sleep

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
    """One image of a stream: its features, or the error that it met.

    Example:
        >>> for result in client.extract_iter(["cat.jpg", "no.jpg"], on_error="return"):
        ...     print(result.index, result.error or result.features["top_activation"].shape)
        0 (7, 7, 1280)
        1 no.jpg: no such file
    """

    #: The image's place in the input, from 0.
    index: int
    #: The image's path, or `image N`.
    source: str
    #: An array for each layer, without the batch dimension; empty if there is an error.
    features: Mapping[str, npt.NDArray[np.float32]]
    error: FeatserveError | None
    #: The model's version that answered; 0 if none did.
    version: int


class Stream:
    """Takes inputs in order, gives out batches to send, takes their answers, gives out results."""

    def __init__(
        self,
        extractor: Extractor,
        known: ModelMetadata,
        layers: Sequence[str] | None,
        *,
        concurrency: int,
        ordered: bool,
        on_error: OnError,
        timeout_s: float | None,
    ) -> None:
        self._extractor = extractor
        self._layers = layers
        self._ordered = ordered
        self._on_error = on_error
        self._timeout_s = timeout_s
        self._batcher = extractor.batcher(known, layers)
        self._batches: deque[ImageBatch] = deque()
        self._ready: dict[int, Extracted] = {}
        self._in_flight = 0
        self._taken = 0
        self._given = 0
        self._image_bytes = READ_AHEAD_BYTES / 8  # little is read ahead before it is known how large they are
        self._most_rows = 2 * concurrency * extractor.limits.max_request_images
        self._last_answer = time.monotonic()
        self.window = CongestionWindow(concurrency)
        self.input_ended = False
        self.closed = False

    @property
    def room(self) -> int:
        """Inputs that may be read now: results that wait for their turn, or for the caller, count against it."""
        ahead = max(1, min(READ_AHEAD, READ_AHEAD_BYTES // max(int(self._image_bytes), 1)))
        if self.input_ended or len(self._batches) > min(self.window.limit, ahead):
            return 0
        return min(ahead, self._most_rows - (self._taken - self._given))

    @property
    def full(self) -> bool:
        """Whether as many batches are in flight as may be: what is read waits for an answer."""
        return self._in_flight >= self.window.limit

    @property
    def finished(self) -> bool:
        """Whether everything has been given out."""
        return self.input_ended and self._taken == self._given

    def add(self, source: str, loaded: Callable[[], list[Image]]) -> None:
        """Takes the images of one input, given by a function that returns or raises at once."""
        try:
            images = loaded()
        except FeatserveError as exc:
            self._taken += 1
            self._fail(source, exc)
            return
        for image in images:
            self._taken += 1
            self._image_bytes = max(image.nbytes, 0.95 * self._image_bytes)
            try:
                self._batches.extend(self._batcher.add(image))
            except InvalidRequest as exc:  # the model takes no images of this kind
                self._fail(image.source, exc)

    def _fail(self, source: str, error: FeatserveError) -> None:
        result = _failed(self._batcher.skip(), source, error)
        self._ready[result.index] = result

    def take(self) -> ImageBatch | None:
        """Returns the batch to send next, None while enough are in flight."""
        if not self._batches and (self.room <= 0 or self._in_flight == 0):
            self._batches.extend(self._batcher.flush())
        if not self._batches or self.full:
            return None
        self._in_flight += 1
        return self._batches.popleft()

    def ask(self, batch: ImageBatch) -> Operation[list[Extracted]]:
        """Sends a batch and returns each image's result: a refusal is narrowed down to the image that caused it."""
        start = time.monotonic()
        results = yield from self._ask(batch)
        self.window.grow((time.monotonic() - start) / len(batch.images))
        return results

    def sent(self, results: Iterable[Extracted]) -> None:
        """Takes the results of a batch."""
        self._in_flight -= 1
        for result in results:
            self._ready[result.index] = result

    def pop(self) -> Iterator[Extracted]:
        """Yields the results whose turn it is.

        Raises:
            FeatserveError: an image failed, and errors are to be raised.
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

    def _ask(self, batch: ImageBatch) -> Operation[list[Extracted]]:
        pause_s = 0.1
        while True:
            try:
                answer = yield from self._extractor.ask(batch, self._layers, self._timeout_s)
            except (InvalidRequest, MessageTooLarge, ResponseError) as exc:
                self._last_answer = time.monotonic()
                if len(batch.images) == 1:
                    return [_failed(batch.indices[0], batch.images[0].source, exc)]
                first, second = batch.halves()
                results = yield from self._ask(first)
                return results + (yield from self._ask(second))
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
                        index=index,
                        source=image.source,
                        features={layer: array[row].copy() for layer, array in answer.outputs.items()},
                        error=None,
                        version=answer.version,
                    )
                    for row, (index, image) in enumerate(zip(batch.indices, batch.images, strict=True))
                ]


def check_stream(concurrency: int, on_error: str) -> None:
    """Refuses arguments before anything is read."""
    CongestionWindow(concurrency)
    if on_error not in ("raise", "return"):
        raise ConfigError(f"on_error must be 'raise' or 'return', not {on_error!r}")


def _failed(index: int, source: str, error: FeatserveError) -> Extracted:
    text = str(error)
    if not text.startswith(source):
        error = reworded(error, f"{source}: {text}")
    return Extracted(index=index, source=source, features={}, error=error, version=0)
