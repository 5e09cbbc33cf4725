"""The questions of the page to a server, and the server's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt


class SourceError(Exception):
    """The server cannot answer, or refuses; the text is a sentence for whoever looks at the page.

    Attributes:
        status: the HTTP status of the page's answer.

    Example:
        >>> str(SourceError("no server at localhost:8500", 503))
        'no server at localhost:8500'
    """

    def __init__(self, text: str, status: int = 500) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class VersionState:
    """One version of a model.

    Example:
        >>> VersionState(version=1, state="AVAILABLE", labels=("stable",)).error
        ''
    """

    version: int
    #: As TensorFlow Serving spells it: START, LOADING, AVAILABLE, UNLOADING or END.
    state: str
    error: str = ""
    #: The labels that name it; None where the server does not tell.
    labels: tuple[str, ...] | None = None
    #: When the version came into this state: seconds since 1970; None where the server does not tell.
    since: float | None = None
    #: When it was first seen in this state, where the server does not tell.
    seen: float | None = None


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or output: numpy's name of its dtype, or `string`; None stands for an open size or rank.

    Example:
        >>> Tensor(dtype="string", shape=(None,)).dtype
        'string'
    """

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One of a model's signatures.

    Example:
        >>> Signature(inputs={"image_bytes": Tensor(dtype="string", shape=(None,))}, outputs={}).outputs
        {}
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Description:
    """A version: its signatures, and the manifest that the exporter wrote, None for models from elsewhere.

    Example:
        >>> Description(version=3, signatures={}).manifest is None
        True
    """

    version: int
    signatures: Mapping[str, Signature]
    manifest: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The outputs of one call by name, and where its time went as far as the server tells.

    Example:
        >>> Answer(outputs={"y": np.zeros(1)}, computed_ms=3.5).waited_ms is None
        True
    """

    outputs: Mapping[str, npt.NDArray[Any]]
    #: Milliseconds that the call waited for a thread of the server.
    waited_ms: float | None = None
    #: Milliseconds that the model took.
    computed_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where code reaches the server.

    Example:
        >>> Address(grpc="localhost:8500", rest="http://localhost:8501").tls
        False
    """

    #: `HOST:PORT`.
    grpc: str
    #: `http://HOST:PORT` or `https://HOST:PORT`; None where there is no REST, or none is known.
    rest: str | None = None
    #: Whether gRPC is under TLS.
    tls: bool = False
    #: Whether callers show a certificate of their own.
    mutual_tls: bool = False


class Source(Protocol):
    """A model server, as the page sees it. Methods block, and are called from several threads."""

    @property
    def max_upload_bytes(self) -> int:
        """Bytes of the largest image file that the server takes."""

    def address(self, host: str) -> Address:
        """Returns where code reaches the server.

        Args:
            host: the host name by which the browser reached the page, for servers that listen on every interface.
        """

    def models(self) -> Mapping[str, Sequence[VersionState]]:
        """Returns the versions of each model, newest first.

        Raises:
            SourceError: the server does not answer.
        """

    def describe(self, model: str, version: int | None) -> Description:
        """Returns the description of a version; None stands for the newest.

        Raises:
            SourceError: the server does not answer, or has no such version.
        """

    def predict(
        self, model: str, version: int, signature: str, inputs: Mapping[str, Sequence[bytes]], outputs: Sequence[str]
    ) -> Answer:
        """Calls a signature.

        Args:
            model: the model's name.
            version: the version.
            signature: the signature's name.
            inputs: byte strings by input name.
            outputs: names of the outputs wanted; none means all.

        Raises:
            SourceError: the server does not answer, or refuses; the text has its words.
        """

    def metrics(self) -> str | None:
        """Returns the server's metrics in Prometheus' text format; None where it is not known where they are.

        Raises:
            SourceError: the metrics cannot be had.
        """
