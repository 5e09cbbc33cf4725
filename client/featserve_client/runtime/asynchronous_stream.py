"""A stream fed by tasks of an event loop; files are read and decoded by threads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable

from ..core.extraction import Extractor
from ..core.stream import READERS, Extracted, Stream
from ..images.inputs import Image, ImageLike, iterate, name
from ..model.metadata import ModelMetadata
from .asynchronous import AsyncRunner


async def drive(
    stream: Stream,
    runner: AsyncRunner,
    extractor: Extractor,
    known: ModelMetadata,
    images: ImageLike | Iterable[ImageLike] | AsyncIterable[ImageLike],
) -> AsyncGenerator[Extracted, None]:
    """Yields the results of a stream of images."""
    inputs: asyncio.Queue[tuple[str, ImageLike] | BaseException | None] = asyncio.Queue(1)
    reading = asyncio.ensure_future(_read(images, inputs))
    next_input: asyncio.Task[tuple[str, ImageLike] | BaseException | None] | None = None
    exhausted = False
    loading: deque[tuple[str, asyncio.Task[list[Image]]]] = deque()
    running: set[asyncio.Task[list[Extracted]]] = set()
    try:
        while not stream.finished:
            if next_input is None and not exhausted and len(loading) < min(stream.room, 2 * READERS):
                next_input = asyncio.ensure_future(inputs.get())
            waited = [*running, *(task for _, task in list(loading)[:1]), *([next_input] if next_input else [])]
            if waited:
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if next_input is not None and next_input.done():
                named, next_input = next_input.result(), None
                if isinstance(named, BaseException):
                    raise named
                if named is None:
                    exhausted = True
                else:
                    load = asyncio.to_thread(extractor.load, *named, known)
                    loading.append((named[0], asyncio.ensure_future(load)))
            while loading and loading[0][1].done():
                source, loaded = loading.popleft()
                stream.add(source, loaded.result)
            stream.input_ended = exhausted and not loading
            for answered in [task for task in running if task.done()]:
                running.discard(answered)
                stream.sent(answered.result())
            while (batch := stream.take()) is not None:
                running.add(asyncio.ensure_future(runner.run(stream.ask(batch))))
            for result in stream.pop():
                yield result
    finally:
        stream.closed = True
        left = [reading, *([next_input] if next_input else []), *running, *(task for _, task in loading)]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _read(
    images: ImageLike | Iterable[ImageLike] | AsyncIterable[ImageLike],
    inputs: asyncio.Queue[tuple[str, ImageLike] | BaseException | None],
) -> None:
    # A single task reads all the images: a resource that the caller's generator holds may belong to the task.
    try:
        if isinstance(images, AsyncIterable):
            index = 0
            async for item in images:
                await inputs.put((name(item, index), item))
                index += 1
        else:
            for named in iterate(images):
                await inputs.put(named)
        await inputs.put(None)
    except Exception as exc:
        await inputs.put(exc)
