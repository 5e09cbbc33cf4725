"""The sync client. The module is long by its documentation: every method has its arguments, errors and an example."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
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
from .runtime.blocking import BlockingRunner
from .runtime.blocking_stream import drive


class FeatureClient(BaseClient):
    """Asks one model of a server that speaks TensorFlow Serving's gRPC API.

    Safe to share between threads, to pickle, and to use after a fork. Connects at the first call; usable as a context
    manager, which closes the connection.

    Example:
        >>> with FeatureClient("localhost:8500", model="efficientnet_lite0") as client:
        ...     features = client.extract(["cat.jpg", "dog.jpg"])
        >>> features["top_activation"].shape
        (2, 7, 7, 1280)
    """

    def _set_up(self) -> None:
        self._runner = BlockingRunner(self._endpoint)

    def __enter__(self) -> FeatureClient:
        """Returns the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connection."""
        self.close()

    @classmethod
    def local(cls, path: str | os.PathLike[str], **options: Any) -> FeatureClient:
        """Serves an exported version on this machine, and returns a client of it; for a laptop, and for tests.

        The server is a process of its own on a free port of the loopback. It ends when the client is closed or
        collected, and with the process that started it. Needs the extra `serving`.

        Args:
            path: the directory of an exported version, `MODEL_ROOT/NAME/VERSION`.
            options: those of the client, but for `target`, `model`, `tls` and `token`.

        Raises:
            ConfigError: the directory is no exported version, or an option contradicts a server of one's own.
            MissingExtraError: the server's package is not installed.
            ConnectError: the server does not start; the text ends with its last words.

        Example:
            >>> with FeatureClient.local("build/models/efficientnet_lite0/1") as client:
            ...     client.embed("cat.jpg").shape
            (1, 1280)
        """
        return cls._local(path, options)

    def close(self) -> None:
        """Closes the connection; the next call opens another. A server that `local` started ends."""
        self._runner.close()
        self._close_server()

    def pinned(self, version: int) -> FeatureClient:
        """Returns another client that asks only this version.

        Example:
            >>> client.pinned(1).metadata().version
            1
        """
        return FeatureClient(**{**vars(self._settings), "version": version, "label": None})

    def extract(
        self,
        images: ImageLike | Iterable[ImageLike],
        layers: str | Iterable[str] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Returns the activations of images.

        Args:
            images: one or many, mixed as you like: paths, encoded bytes, binary files (from their beginning), PIL
                images, arrays `(H, W)`, `(H, W, C)` or `(N, H, W, C)` with 1, 3 (RGB) or 4 channels: uint8 of any
                size, or float 0..255 of the network's own size. BGR cannot be told from RGB.
            layers: the layers wanted, all if None.
            timeout_s: seconds each request may take.

        Returns:
            For each layer an array `(N, ...)` float32, one row per image in the order given.

        Raises:
            InvalidImageError: an input is no usable image.
            InvalidRequest: the model lacks a layer, takes no such images, or cannot decode one.
            ModelNotFound: the server has no such model, version or label.
            ServerOverloaded: the server takes no more requests.
            ServerError: the server refuses for any other reason.
            ConnectError: no server answers at the address.
            DeadlineExceeded: an answer does not come in time.
            MessageTooLarge: a message is over a limit.
            ResponseError: the answer lacks an output, or an output has another shape or dtype.
            ConfigError: there are no images, or `layers` is empty.

        Example:
            >>> pixels = np.zeros((2, 480, 640, 3), np.uint8)
            >>> client.extract(pixels, layers="top_activation")["top_activation"].shape
            (2, 7, 7, 1280)
        """
        concurrency = self._settings.concurrency
        return self._runner.run(self._extractor.extract(images, layers, timeout_s, concurrency))

    def embed(
        self,
        images: ImageLike | Iterable[ImageLike],
        layer: str | None = None,
        *,
        normalize: bool = True,
        timeout_s: float | None = None,
    ) -> npt.NDArray[np.float32]:
        """Returns one vector per image, for search and comparison.

        Args:
            images: as for `extract`.
            layer: the layer taken; if None, the model's last that is no classifier. Feature maps are averaged over
                height and width.
            normalize: whether each vector is brought to length 1, so that a dot product is the cosine.
            timeout_s: seconds each request may take.

        Returns:
            `(N, D)` float32, one row per image in the order given.

        Raises:
            FeatserveError: the call fails in one of the ways that `extract` lists.

        Example:
            >>> vectors = client.embed(["cat.jpg", "dog.jpg"])
            >>> vectors.shape, (vectors @ vectors.T).shape
            ((2, 1280), (2, 2))
        """
        kind: VectorKind = "mean-l2" if normalize else "mean"
        return self._runner.run(self._extractor.embed(images, layer, kind, timeout_s, self._settings.concurrency))

    def classify(
        self,
        images: ImageLike | Iterable[ImageLike],
        top: int = 5,
        *,
        layer: str | None = None,
        timeout_s: float | None = None,
    ) -> list[list[ClassScore]]:
        """Returns the classes that a classifier gives images, by the names that its export carries.

        Args:
            images: as for `extract`.
            top: how many classes of each image.
            layer: the classifier's output; if None, the model's last that has names.
            timeout_s: seconds each request may take.

        Returns:
            For each image, in the order given, its classes, the highest score first.

        Raises:
            ConfigError: no output of the model has names of classes, or `top` is below 1; the text has the remedy.
            FeatserveError: the call fails in one of the ways that `extract` lists.

        Example:
            >>> for best in classifier.classify("cat.jpg", top=2)[0]:
            ...     print(f"{best.score:.2f} {best.label}")
            0.70 Egyptian cat
            0.20 tabby
        """
        concurrency = self._settings.concurrency
        return self._runner.run(classify(self._extractor, self._cache, images, top, layer, timeout_s, concurrency))

    def predict(
        self,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        signature: str = "serving_default",
        output_filter: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Calls any signature of any model.

        Args:
            inputs: arrays by input name; bytes and str travel as strings.
            signature: the signature's name.
            output_filter: the outputs wanted, all if empty.
            timeout_s: seconds the call may take.

        Returns:
            Arrays by output name; strings as an object array of bytes.

        Raises:
            InvalidRequest: the model has no such signature or output, or refuses the inputs.
            FeatserveError: the call fails in one of the other ways that `extract` lists.

        Example:
            >>> photo = pathlib.Path("cat.jpg").read_bytes()
            >>> client.predict({"image_bytes": [photo]}, signature="encoded")["top_activation"].dtype
            dtype('float32')
        """
        call = predict(self._requests, self._cache, inputs, signature, output_filter, timeout_s)
        return self._runner.run(call)

    def metadata(self, *, timeout_s: float | None = None) -> ModelMetadata:
        """Returns the model's version, signatures and manifest.

        Raises:
            ModelNotFound: the server has no such model, version or label.
            FeatserveError: the call fails in one of the other ways that `extract` lists.

        Example:
            >>> client.metadata().layers
            ('top_activation',)
        """
        return self._runner.run(self._cache.with_manifest(timeout_s))

    def status(self, *, timeout_s: float | None = None) -> list[VersionStatus]:
        """Returns the state of each version of the model, ascending.

        Raises:
            ModelNotFound: the server has no such model.
            FeatserveError: the call fails in one of the other ways that `extract` lists.

        Example:
            >>> client.status()
            [VersionStatus(version=1, state='AVAILABLE', error='', since=None, labels=None)]
        """
        return self._runner.run(status(self._requests, timeout_s))

    def wait_until_ready(self, timeout_s: float) -> None:
        """Returns once the model answers requests.

        Args:
            timeout_s: seconds to wait.

        Raises:
            DeadlineExceeded: the model does not answer in this time; the text says why.

        Example:
            >>> client.wait_until_ready(60)
        """
        self._runner.run(wait_until_ready(self._requests, self._cache, timeout_s))

    def extract_iter(
        self,
        images: ImageLike | Iterable[ImageLike],
        layers: str | Iterable[str] | None = None,
        *,
        concurrency: int = 8,
        ordered: bool = True,
        on_error: OnError = "raise",
        timeout_s: float | None = None,
    ) -> Generator[Extracted, None, None]:
        """Yields the activations of images one by one, from any number of them, in bounded memory.

        Requests overlap; reading goes no further ahead than results are taken. A server that is away or overloaded is
        asked again for a minute.

        Args:
            images: as for `extract`; a generator is read as needed.
            layers: the layers wanted, all if None.
            concurrency: requests in flight at most; fewer are used if more would only wait at the server.
            ordered: whether results come in the order of the input, or as they are ready.
            on_error: whether an image's own error is raised, or comes as `Extracted.error` and the rest goes on.
            timeout_s: seconds each request may take.

        Raises:
            FeatserveError: a call fails as `extract` lists; with `on_error="return"`, only where that is not about one
                image.

        Example:
            >>> for result in client.extract_iter(["cat.jpg", "dog.jpg"]):
            ...     print(result.source, result.features["top_activation"].mean() > 0)
            cat.jpg True
            dog.jpg True
        """
        check_stream(concurrency, on_error)
        return self._stream(images, parse_layers(layers), concurrency, ordered, on_error, timeout_s)

    def _stream(
        self,
        images: ImageLike | Iterable[ImageLike],
        layers: Sequence[str] | None,
        concurrency: int,
        ordered: bool,
        on_error: OnError,
        timeout_s: float | None,
    ) -> Generator[Extracted, None, None]:
        known = self._runner.run(self._extractor.prepare(layers, timeout_s))
        stream = Stream(
            self._extractor,
            known,
            layers,
            concurrency=concurrency,
            ordered=ordered,
            on_error=on_error,
            timeout_s=timeout_s,
        )
        yield from drive(stream, self._runner, self._extractor, known, images, concurrency)
