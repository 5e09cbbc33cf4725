"""Threads that load the inputs of a stream."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..core.stream import READERS
from ..images.inputs import Image, ImageLike


class Input:
    """An input on its way: once it is `done`, `images` returns what was loaded, or raises what loading it raised."""

    __slots__ = ("_error", "_images", "done", "item", "source")

    def __init__(self, source: str, item: ImageLike) -> None:
        self.source = source
        self.item = item
        self.done = False
        self._images: list[Image] = []
        self._error: BaseException | None = None

    def load(self, load: Callable[[str, ImageLike], list[Image]]) -> None:
        """Loads the images, or keeps the error."""
        try:
            self._images = load(self.source, self.item)
        except BaseException as exc:
            self._error = exc
        self.done = True

    def images(self) -> list[Image]:
        """Returns the images, or raises the error."""
        if self._error is not None:
            raise self._error
        return self._images


class Readers:
    """Loads inputs, oldest first, and calls `tell` when the input that is awaited is done.

    To wake a thread costs as much as to read a photo: a thread goes on while there is anything to load, and whoever
    waits is woken for one input alone.
    """

    def __init__(self, load: Callable[[str, ImageLike], list[Image]], tell: Callable[[], None]) -> None:
        self.awaited: Input | None = None
        self._load = load
        self._tell = tell
        self._pool = ThreadPoolExecutor(READERS, "featserve-read")
        self._lock = threading.Lock()
        self._waiting: deque[Input] = deque()
        self._at_work = 0

    def add(self, source: str, item: ImageLike) -> Input:
        """Has an input loaded."""
        added = Input(source, item)
        with self._lock:
            self._waiting.append(added)
            more = self._at_work < READERS
            self._at_work += more
        if more:
            self._pool.submit(self._work)
        return added

    def close(self) -> None:
        """Drops what is not begun."""
        with self._lock:
            self._waiting.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            taken.load(self._load)
            if taken is self.awaited:
                self._tell()

    def _next(self) -> Input | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._at_work -= 1
            return None
