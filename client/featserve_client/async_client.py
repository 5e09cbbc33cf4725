"""The async client."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from .base_client import BaseClient
from .core.classification import ClassScore, classify
from .core.extraction import parse_layers
from .core.metadata import status, wait_until_ready
from .core.prediction import predict
from .core.stream import Extracted, OnError, Stream, check_stream
from .core.vectors import VectorKind
from .images.inputs import ImageLike
from .model.metadata import ModelMetadata, VersionStatus
from .runtime.asynchronous import AsyncRunner
from .runtime.asynchronous_stream import drive


class AsyncFeatureClient(BaseClient):
    """`FeatureClient` for asyncio: the same names, arguments, results and errors, awaited.

    Used by one event loop at a time; under another loop, or after a fork, it connects anew.

    Example:
        >>> async def extract():
        ...     async with AsyncFeatureClient("localhost:8500", model="efficientnet_lite0") as client:
        ...         return await client.extract("cat.jpg")
        >>> asyncio.run(extract())["top_activation"].shape
        (1, 7, 7, 1280)
    """

    def _set_up(self) -> None:
        self._runner = AsyncRunner(self._endpoint)

    async def __aenter__(self) -> AsyncFeatureClient:
        """Returns the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connection."""
        await self.close()

    @classmethod
    async def local(cls, path: str | os.PathLike[str], **options: Any) -> AsyncFeatureClient:
        """See `FeatureClient.local`."""
        return await asyncio.to_thread(cls._local, path, options)

    async def close(self) -> None:
        """Closes the connection; the next call opens another. A server that `local` started ends."""
        await self._runner.close()
        await asyncio.to_thread(self._close_server)

    def pinned(self, version: int) -> AsyncFeatureClient:
        """See `FeatureClient.pinned`."""
        return AsyncFeatureClient(**{**vars(self._settings), "version": version, "label": None})

    async def extract(
        self,
        images: ImageLike | Iterable[ImageLike],
        layers: str | Iterable[str] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> dict[str, npt.NDArray[np.float32]]:
        """See `FeatureClient.extract`."""
        concurrency = self._settings.concurrency
        return await self._runner.run(self._extractor.extract(images, layers, timeout_s, concurrency))

    async def embed(
        self,
        images: ImageLike | Iterable[ImageLike],
        layer: str | None = None,
        *,
        normalize: bool = True,
        timeout_s: float | None = None,
    ) -> npt.NDArray[np.float32]:
        """See `FeatureClient.embed`."""
        kind: VectorKind = "mean-l2" if normalize else "mean"
        concurrency = self._settings.concurrency
        return await self._runner.run(self._extractor.embed(images, layer, kind, timeout_s, concurrency))

    async def classify(
        self,
        images: ImageLike | Iterable[ImageLike],
        top: int = 5,
        *,
        layer: str | None = None,
        timeout_s: float | None = None,
    ) -> list[list[ClassScore]]:
        """See `FeatureClient.classify`."""
        concurrency = self._settings.concurrency
        call = classify(self._extractor, self._cache, images, top, layer, timeout_s, concurrency)
        return await self._runner.run(call)

    async def predict(
        self,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        signature: str = "serving_default",
        output_filter: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """See `FeatureClient.predict`."""
        call = predict(self._requests, self._cache, inputs, signature, output_filter, timeout_s)
        return await self._runner.run(call)

    async def metadata(self, *, timeout_s: float | None = None) -> ModelMetadata:
        """See `FeatureClient.metadata`."""
        return await self._runner.run(self._cache.with_manifest(timeout_s))

    async def status(self, *, timeout_s: float | None = None) -> list[VersionStatus]:
        """See `FeatureClient.status`."""
        return await self._runner.run(status(self._requests, timeout_s))

    async def wait_until_ready(self, timeout_s: float) -> None:
        """See `FeatureClient.wait_until_ready`."""
        await self._runner.run(wait_until_ready(self._requests, self._cache, timeout_s))

    async def extract_iter(
        self,
        images: ImageLike | Iterable[ImageLike] | AsyncIterable[ImageLike],
        layers: str | Iterable[str] | None = None,
        *,
        concurrency: int = 8,
        ordered: bool = True,
        on_error: OnError = "raise",
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Extracted, None]:
        """See `FeatureClient.extract_iter`; the images may come from an async iterable too."""
        check_stream(concurrency, on_error)
        wanted = parse_layers(layers)
        known = await self._runner.run(self._extractor.prepare(wanted, timeout_s))
        stream = Stream(
            self._extractor,
            known,
            wanted,
            concurrency=concurrency,
            ordered=ordered,
            on_error=on_error,
            timeout_s=timeout_s,
        )
        async with contextlib.aclosing(drive(stream, self._runner, self._extractor, known, images)) as results:
            async for result in results:
                yield result
