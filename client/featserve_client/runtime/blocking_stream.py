"""A stream fed by threads: some read and decode images, some send batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from ..core.extraction import Extractor
from ..core.stream import READERS, Extracted, Stream
from ..images.inputs import Image, ImageLike, iterate
from ..model.metadata import ModelMetadata
from .blocking import BlockingRunner, CallGroup


def drive(
    stream: Stream,
    runner: BlockingRunner,
    extractor: Extractor,
    known: ModelMetadata,
    images: ImageLike | Iterable[ImageLike],
    concurrency: int,
) -> Generator[Extracted, None, None]:
    """Yields the results of a stream of images."""
    inputs = iterate(images)
    exhausted = False
    loading: deque[tuple[str, Future[list[Image]]]] = deque()
    running: set[Future[list[Extracted]]] = set()
    group = CallGroup()
    readers = ThreadPoolExecutor(READERS, "featserve-read")
    senders = ThreadPoolExecutor(concurrency, "featserve-send")

    def hungry() -> bool:
        return not exhausted and len(loading) < stream.room

    def useful() -> bool:
        # What is read while nothing more may be sent waits for the next answer: a wake for each image would cost as
        # much as the reading.
        return bool(loading) and not stream.full and loading[0][1].done()

    try:
        while not stream.finished:
            while hungry():
                named = next(inputs, None)
                if named is None:
                    exhausted = True
                else:
                    loading.append((named[0], readers.submit(extractor.load, *named, known)))
                if useful() or any(future.done() for future in running):
                    break  # the next input may be long in coming
            while loading and loading[0][1].done():
                source, loaded = loading.popleft()
                stream.add(source, loaded.result)
            stream.input_ended = exhausted and not loading
            while (batch := stream.take()) is not None:
                running.add(senders.submit(runner.run, stream.ask(batch), group))
            yield from stream.pop()
            waited: list[Future[Any]] = [*running]
            if loading and not stream.full:
                waited.append(loading[0][1])
            # A wait for nothing returns at once.
            done, _ = wait(waited, timeout=0 if hungry() else None, return_when=FIRST_COMPLETED)
            for answered in [future for future in running if future in done]:
                running.discard(answered)
                stream.sent(answered.result())
    finally:
        stream.closed = True
        readers.shutdown(wait=False, cancel_futures=True)
        senders.shutdown(wait=False, cancel_futures=True)
        group.cancel()
