"""How a client connects, retries and cuts its requests: the options, and the limits of their values."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from .exceptions import ConfigError

Compression = Literal["none", "deflate", "gzip"]
Decode = Literal["client", "server"]


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Retries of calls that found no server (UNAVAILABLE), by gRPC itself and within the call's deadline.

    Its pauses are also those between two tries to connect.

    Raises:
        ConfigError: gRPC would drop a value in silence.

    Example:
        >>> client = FeatureClient("localhost:8500", model="efficientnet_lite0", retry=RetryPolicy(max_attempts=1))
    """

    #: Tries of one call, the first included; gRPC allows at most 5.
    max_attempts: int = 5
    initial_backoff_s: float = 0.1
    max_backoff_s: float = 5.0
    backoff_multiplier: float = 2.0
    #: A failure takes a token, a success gives `budget_refill` of one back; below half the budget nothing is retried.
    budget_tokens: int = 100
    budget_refill: float = 0.5

    def __post_init__(self) -> None:
        """Refuses values that gRPC would drop in silence."""
        _require(1 <= self.max_attempts <= 5, "max_attempts", "1 to 5", self.max_attempts)
        for name in ("initial_backoff_s", "max_backoff_s"):
            # With pauses of 1 ms, gRPC 1.85 never made some of the tries: the calls ended at their deadline.
            _require(getattr(self, name) >= 0.005, name, "at least 0.005", getattr(self, name))
        _require(self.backoff_multiplier > 0, "backoff_multiplier", "above 0", self.backoff_multiplier)
        _require(0 < self.budget_tokens <= 1000, "budget_tokens", "above 0, up to 1000", self.budget_tokens)
        _require(self.budget_refill > 0, "budget_refill", "above 0", self.budget_refill)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes of messages.

    Raises:
        ConfigError: nothing could pass a limit.

    Example:
        >>> client = FeatureClient("localhost:8500", model="efficientnet_lite0", limits=Limits(max_request_images=8))
    """

    #: The largest message sent or received; gRPC's own default for answers is 4 MB.
    max_message_bytes: int = 256 * 2**20
    #: A request is cut before it grows beyond this; one larger image travels alone.
    max_request_bytes: int = 4 * 2**20
    max_request_images: int = 32
    #: A request is cut so that its answer stays below this.
    max_response_bytes: int = 32 * 2**20

    def __post_init__(self) -> None:
        """Refuses limits that nothing could pass."""
        for name in ("max_message_bytes", "max_request_bytes", "max_request_images", "max_response_bytes"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        _require(self.max_message_bytes < 2**31, "max_message_bytes", "below 2 GiB", self.max_message_bytes)


@dataclass(frozen=True, kw_only=True)
class Keepalive:
    """Pings that notice a server which vanished while calls wait.

    By default a connection is given up after two thirds of a call's time at most, so that the last third is left to
    try the call elsewhere. A server ends a connection at the fourth ping in a row that comes within 300 s of the one
    before, unless it is told otherwise or has sent something in between: a call makes no more than three.

    Raises:
        ConfigError: a time is not above 0.

    Example:
        >>> client = FeatureClient("localhost:8500", model="efficientnet_lite0", keepalive=Keepalive(interval_s=600))
    """

    #: Seconds without a word from the server until a ping; None for a third of the client's `timeout_s`, 2 to 330.
    interval_s: float | None = None
    #: Seconds until a ping must be answered; None for the same third, 2 to 20.
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        """Refuses times that are not times."""
        for name in ("interval_s", "timeout_s"):
            value = getattr(self, name)
            _require(value is None or value > 0, name, "above 0", value)

    def within(self, call_s: float) -> tuple[float, float]:
        """Returns interval and timeout in seconds, for calls that may take `call_s` seconds."""
        third = max(call_s / 3, 2.0)
        return self.interval_s or min(third, 330.0), self.timeout_s or min(third, 20.0)


@dataclass(frozen=True, kw_only=True)
class TLS:
    """Certificates, PEM files. With `certificate` and `private_key` the client shows its own (mTLS).

    Raises:
        ConfigError: `certificate` or `private_key` is given without the other.

    Example:
        >>> client = FeatureClient("localhost:8500", model="efficientnet_lite0", tls=TLS(ca="ca.pem"), token="secret")
    """

    #: The authorities trusted; without one, gRPC's built-in list.
    ca: str | os.PathLike[str] | None = None
    certificate: str | os.PathLike[str] | None = None
    private_key: str | os.PathLike[str] | None = None
    #: The name the server's certificate is for, where it is not the address's.
    server_name: str | None = None

    def __post_init__(self) -> None:
        """Refuses half a key pair."""
        if (self.certificate is None) != (self.private_key is None):
            raise ConfigError("TLS needs certificate and private_key together, or neither")

    def read(self, name: Literal["ca", "certificate", "private_key"]) -> bytes | None:
        """Returns a file's bytes, or None where none is named."""
        path = getattr(self, name)
        if path is None:
            return None
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as exc:
            raise ConfigError(f"TLS {name}: {exc}") from exc


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """Everything that a client is made from; `FeatureClient` says what each means."""

    target: str
    model: str
    version: int | None
    label: str | None
    timeout_s: float
    wait_for_ready: bool
    decode: Decode
    concurrency: int
    limits: Limits
    retry: RetryPolicy
    keepalive: Keepalive
    tls: TLS | None
    token: str | Callable[[], str] | None
    compression: Compression
    metadata: Mapping[str, str]
    interceptors: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Refuses values that cannot work, alone or together."""
        if not isinstance(self.model, str) or not self.model:
            raise ConfigError(f"the model's name must be text and not empty, not {self.model!r}")
        whole = self.version is None or (isinstance(self.version, int | np.integer) and 0 <= self.version < 2**63)
        _require(whole, "version", "a whole number from 0 up", repr(self.version))
        if self.version is not None and self.label is not None:
            raise ConfigError(f"version ({self.version}) and label ({self.label!r}) cannot both be given")
        if self.token is not None and self.tls is None:
            raise ConfigError("token needs tls: a bearer token in plain text can be read on the way")
        for name, kind in (("decode", Decode), ("compression", Compression)):
            choices = get_args(kind)
            _require(getattr(self, name) in choices, name, f"one of {', '.join(choices)}", repr(getattr(self, name)))
        _require(self.concurrency >= 1, "concurrency", "at least 1", self.concurrency)
        check_timeout(self.timeout_s)


def check_timeout(timeout_s: float) -> float:
    """Returns the timeout.

    Raises:
        ConfigError: the timeout is not a finite number of seconds above 0.
    """
    if not isinstance(timeout_s, int | float) or not 0 < timeout_s < 2**31:
        raise ConfigError(f"timeout_s must be above 0 and finite, not {timeout_s!r}")
    return timeout_s


def _require(holds: bool, name: str, expected: str, received: object) -> None:
    if not holds:
        raise ConfigError(f"{name} must be {expected}, not {received}")
