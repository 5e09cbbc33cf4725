"""A stream fed by threads: some read and decode images, some send batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from ..core.extraction import Extractor
from ..core.stream import Extracted, Stream
from ..images.inputs import ImageLike, iterate
from ..model.metadata import ModelMetadata
from .blocking import BlockingRunner, CallGroup
from .readers import Input, Readers


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
    loading: deque[Input] = deque()
    group = CallGroup()
    # What has happened: a batch is answered, or, where that is None, the input that was awaited is loaded.
    events: SimpleQueue[Future[list[Extracted]] | None] = SimpleQueue()
    readers = Readers(lambda source, item: extractor.load(source, item, known), lambda: events.put(None))
    senders = ThreadPoolExecutor(concurrency, "featserve-send")

    def awaited() -> Input | None:
        # What is read while nothing more may be sent waits for the next answer: a wake for each image would cost as
        # much as the reading.
        return loading[0] if loading and not stream.full else None

    try:
        while not stream.finished:
            room = stream.room
            while not exhausted and len(loading) < room:
                named = next(inputs, None)
                if named is None:
                    exhausted = True
                else:
                    loading.append(readers.add(*named))
                if not events.empty() or ((first := awaited()) and first.done):
                    break  # the next input may be long in coming
            while loading and loading[0].done:
                loaded = loading.popleft()
                stream.add(loaded.source, loaded.images)
            stream.input_ended = exhausted and not loading
            while (batch := stream.take()) is not None:
                senders.submit(runner.run, stream.ask(batch), group).add_done_callback(events.put)
            yield from stream.pop()
            readers.awaited = first = awaited()
            hungry = not exhausted and len(loading) < stream.room
            waiting = not (stream.finished or hungry or (first and first.done))
            while waiting or not events.empty():
                if (answered := events.get()) is not None:
                    stream.sent(answered.result())
                waiting = False
    finally:
        stream.closed = True
        readers.close()
        senders.shutdown(wait=False, cancel_futures=True)
        group.cancel()
