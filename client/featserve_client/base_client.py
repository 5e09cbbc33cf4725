"""What the sync and the async client have in common: everything but waiting."""

from __future__ import annotations

import abc
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc

from .config import TLS, Compression, Decode, Keepalive, Limits, RetryPolicy
from .core.planner import Call, Planner
from .exceptions import ConfigError, FeatserveError
from .transport.channel import check_metadata, check_target, check_token, credentials, options, resolve
from .transport.channel import compression as _compression
from .transport.errors import CallContext, translate

#: Tries of a call that the server refuses with a hint when to come back.
_PUSHBACK_ATTEMPTS = 5
_PUSHBACK = "grpc-retry-pushback-ms"


class BaseClient(abc.ABC):
    """Configuration, pickling and error translation."""

    def __init__(
        self,
        target: str | Sequence[str] = "localhost:8500",
        *,
        model: str,
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
        """Configure a client; it connects at its first call.

        Args:
            target: `HOST:PORT`, several of them (also comma-separated), or a gRPC target such as `dns:///HOST:PORT`.
                Calls go to all addresses in turn, and to healthy ones only.
            model: The model's name on the server.
            version: Ask this version; the server's latest otherwise.
            label: Ask the version with this label.
            timeout_s: Seconds one call may take, retries included.
            wait_for_ready: Whether calls wait for a server that is not there yet, instead of failing at once.
            decode: Where encoded images are decoded and resized: by the `server`, or by Pillow in the `client`, which
                sends the network's own size instead of the file.
            concurrency: Requests in flight at most, of one `extract`.
            limits: Sizes at which requests are cut and messages refused.
            retry: Retries of calls that found no server.
            keepalive: Pings while calls wait.
            tls: Certificates; without it the connection is in plain text.
            token: A bearer token, or a function that returns a fresh one. Needs `tls`.
            compression: Of requests.
            metadata: Sent with every call. An `x-request-id` here replaces the one made for each call.
            interceptors: gRPC client interceptors, outermost first.

        Raises:
            ConfigError: A value that cannot work.
        """
        if not isinstance(target, str):
            target = ",".join(target)
        if token is not None and tls is None:
            raise ConfigError("token needs tls: a bearer token in plain text can be read on the way")
        if isinstance(token, str):
            check_token(token)
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, not {concurrency}")
        self._settings: dict[str, Any] = {
            "target": check_target(target),
            "model": model,
            "version": version,
            "label": label,
            "timeout_s": timeout_s,
            "wait_for_ready": wait_for_ready,
            "decode": decode,
            "concurrency": concurrency,
            "limits": limits or Limits(),
            "retry": retry or RetryPolicy(),
            "keepalive": keepalive or Keepalive(),
            "tls": tls,
            "token": token,
            "compression": compression,
            "metadata": check_metadata(metadata or {}),
            "interceptors": tuple(interceptors),
        }
        self._compression = _compression(compression)
        self._limits: Limits = self._settings["limits"]
        self._plans = Planner(
            model=model, version=version, label=label, timeout_s=timeout_s, limits=self._limits, decode=decode
        )
        self._set_up()

    @abc.abstractmethod
    def _set_up(self) -> None:
        """Prepare the connection's state, without connecting."""

    @property
    def target(self) -> str:
        """The server's address."""
        return str(self._settings["target"])

    @property
    def model(self) -> str:
        """The model's name."""
        return self._plans.model

    @property
    def decode(self) -> Decode:
        """Where encoded images are decoded."""
        return self._plans.decode

    @property
    def limits(self) -> Limits:
        """Sizes at which requests are cut and messages refused."""
        return self._limits

    def __repr__(self) -> str:
        """Show what the client talks to."""
        return f"{type(self).__name__}({self.target!r}, model={self.model!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings; the copy connects by itself."""
        return _restore, (type(self), self._settings)

    def _channel_arguments(self) -> tuple[str, list[tuple[str, Any]], grpc.ChannelCredentials | None]:
        settings = self._settings
        arguments = options(
            limits=self._limits,
            retry=settings["retry"],
            keepalive=settings["keepalive"],
            tls=settings["tls"],
            target=self.target,
            user_agent="featserve-client",
        )
        secure = credentials(settings["tls"], settings["token"]) if settings["tls"] else None
        return resolve(self.target), arguments, secure

    def _call_metadata(self, call: Call) -> tuple[tuple[str, str], ...]:
        extra: dict[str, str] = self._settings["metadata"]
        return (*({"x-request-id": call.request_id} | extra).items(),)

    def _error(self, call: Call, code: grpc.StatusCode, details: str | None) -> FeatserveError:
        request_id = dict(self._call_metadata(call))["x-request-id"]
        context = CallContext(target=self.target, model=self.model, timeout_s=call.timeout_s, request_id=request_id)
        return translate(code, details, context)

    @staticmethod
    def _pushback_s(error: grpc.RpcError, attempt: int, left_s: float) -> float | None:
        """Seconds after which the server asks to be called again; None if it does not, or too late to be of use."""
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or attempt >= _PUSHBACK_ATTEMPTS:
            return None
        for key, value in error.trailing_metadata() or ():
            text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
            if key == _PUSHBACK and text.isdigit():
                # Up to a fifth more, so that those refused together do not come back together.
                wait_s = int(text) / 1000 * (1 + random.random() / 5)  # noqa: S311
                return wait_s if wait_s < left_s else None
        return None


def _restore(kind: type[BaseClient], settings: dict[str, Any]) -> BaseClient:
    return kind(**settings)
