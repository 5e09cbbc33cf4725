"""The common part of the sync and the async client: everything but waiting."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import environment
from .config import TLS, ClientSettings, Compression, Decode, Keepalive, Limits, RetryPolicy
from .core.extraction import Extractor
from .core.metadata import MetadataCache
from .core.requests import ModelRequests
from .exceptions import ConfigError
from .local_server import LocalServer, check_export
from .transport.endpoint import Endpoint

if TYPE_CHECKING:
    from typing_extensions import Self


class BaseClient(abc.ABC):
    """Keeps a client's options, and makes the operations that it runs."""

    def __init__(
        self,
        target: str | Sequence[str] | None = None,
        *,
        model: str | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float = 60.0,
        wait_for_ready: bool = False,
        decode: Decode = "server",
        concurrency: int = 4,
        limits: Limits | None = None,
        retry: RetryPolicy | None = None,
        keepalive: Keepalive | None = None,
        tls: TLS | None = None,
        token: str | Callable[[], str] | None = None,
        compression: Compression = "none",
        metadata: Mapping[str, str] | None = None,
        interceptors: Iterable[Any] = (),
    ) -> None:
        """Configures a client; it connects at its first call.

        Args:
            target: `HOST:PORT`, several of them (also comma-separated), or a gRPC target such as `dns:///HOST:PORT`.
                Calls go to all addresses in turn, and to healthy ones only. None stands for the variable
                FEATSERVE_SERVER, and `localhost:8500` where that is not set.
            model: the model's name on the server. None stands for the variable FEATSERVE_MODEL, and
                `efficientnet_lite0` where that is not set.
            version: ask this version; the server's latest otherwise.
            label: ask the version with this label.
            timeout_s: seconds one call may take, retries included.
            wait_for_ready: whether calls wait for a server that is not there yet, instead of failing at once.
            decode: where encoded images are decoded and resized: by the `server`, or by Pillow in the `client`, which
                sends the network's own size instead of the file.
            concurrency: requests in flight at most, of one `extract`.
            limits: sizes at which requests are cut and messages refused.
            retry: retries of calls that found no server.
            keepalive: pings while calls wait.
            tls: certificates; without it, and without the variable FEATSERVE_CA, which names the file of an authority
                to trust, the connection is in plain text.
            token: a bearer token, or a function that returns a fresh one. Needs `tls`. None stands for what is in the
                file that the variable FEATSERVE_TOKEN_FILE names.
            compression: of requests.
            metadata: sent with every call. An `x-request-id` here replaces the one made for each call.
            interceptors: gRPC client interceptors, outermost first.

        Raises:
            ConfigError: an option has a value that cannot work, alone or beside another.
        """
        target = environment.server() if target is None else target
        model = environment.model() if model is None else model
        tls = environment.tls() if tls is None else tls
        token = environment.token() if token is None else token
        self._settings = ClientSettings(
            target=target if isinstance(target, str) else ",".join(target),
            model=model,
            version=version,
            label=label,
            timeout_s=timeout_s,
            wait_for_ready=wait_for_ready,
            decode=decode,
            concurrency=concurrency,
            limits=limits or Limits(),
            retry=retry or RetryPolicy(),
            keepalive=keepalive or Keepalive(),
            tls=tls,
            token=token,
            compression=compression,
            metadata=dict(metadata or {}),
            interceptors=tuple(interceptors),
        )
        self._endpoint = Endpoint(self._settings)
        self._requests = ModelRequests(model=model, version=version, label=label, timeout_s=timeout_s)
        self._cache = MetadataCache(self._requests)
        self._extractor = Extractor(self._requests, self._cache, self._settings.limits, decode)
        self._server: LocalServer | None = None
        self._set_up()

    @abc.abstractmethod
    def _set_up(self) -> None:
        """Makes the runner of operations, without connecting."""

    @classmethod
    def _local(cls, path: str | os.PathLike[str], options: Mapping[str, Any]) -> Self:
        """Starts a server of an exported version, and returns the client that asks it.

        Raises:
            ConfigError: the directory is no exported version, or an option contradicts a server of one's own.
            MissingExtraError: the server's package is not installed.
            ConnectError: the server does not start.
        """
        version = check_export(path)
        for name in ("target", "model", "tls", "token"):
            if options.get(name) is not None:
                raise ConfigError(f"{name}= is for a server that is there already: leave it out")
        if environment.tls() or environment.token():
            raise ConfigError("its own server speaks plain text: leave $FEATSERVE_CA and $FEATSERVE_TOKEN_FILE out")
        server = LocalServer(version)
        try:
            client = cls(**{**options, "target": server.address, "model": version.parent.name})
        except BaseException:
            server.close()
            raise
        client._server = server
        return client

    def _close_server(self) -> None:
        """Ends the server that was started for this client, if there is one."""
        if self._server is not None:
            self._server.close()

    @property
    def target(self) -> str:
        """The server's address."""
        return self._settings.target

    @property
    def model(self) -> str:
        """The model's name."""
        return self._settings.model

    @property
    def decode(self) -> Decode:
        """Where encoded images are decoded."""
        return self._settings.decode

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self._settings.tls is not None

    @property
    def limits(self) -> Limits:
        """Sizes at which requests are cut and messages refused."""
        return self._settings.limits

    def __repr__(self) -> str:
        """Shows the server and the model."""
        return f"{type(self).__name__}({self.target!r}, model={self.model!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the settings; the copy connects by itself."""
        return _restore, (type(self), self._settings)


def _restore(kind: type[BaseClient], settings: ClientSettings) -> BaseClient:
    return kind(**vars(settings))
