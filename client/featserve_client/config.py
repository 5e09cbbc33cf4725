"""How a client connects, retries and cuts its requests."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from .exceptions import ConfigError

Compression = Literal["none", "deflate", "gzip"]
Decode = Literal["client", "server"]


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Retries of calls that found no server (UNAVAILABLE), by gRPC itself and within the call's deadline.

    Its pauses are also those between two tries to connect.
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
        """Refuse values that gRPC would drop in silence."""
        _require(1 <= self.max_attempts <= 5, "max_attempts", "1 to 5", self.max_attempts)
        for name in ("initial_backoff_s", "max_backoff_s"):
            # With pauses of 1 ms, gRPC 1.85 never made some of the tries: the calls ended at their deadline.
            _require(getattr(self, name) >= 0.005, name, "at least 0.005", getattr(self, name))
        _require(self.backoff_multiplier > 0, "backoff_multiplier", "above 0", self.backoff_multiplier)
        _require(0 < self.budget_tokens <= 1000, "budget_tokens", "above 0, up to 1000", self.budget_tokens)
        _require(self.budget_refill > 0, "budget_refill", "above 0", self.budget_refill)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes of messages."""

    #: The largest message sent or received; gRPC's own default for answers is 4 MB.
    max_message_bytes: int = 256 * 2**20
    #: A request is cut before it grows beyond this; one larger image travels alone.
    max_request_bytes: int = 4 * 2**20
    max_request_images: int = 32
    #: A request is cut so that its answer stays below this.
    max_response_bytes: int = 32 * 2**20

    def __post_init__(self) -> None:
        """Refuse limits that nothing could pass."""
        for name in ("max_message_bytes", "max_request_bytes", "max_request_images", "max_response_bytes"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        _require(self.max_message_bytes < 2**31, "max_message_bytes", "below 2 GiB", self.max_message_bytes)


@dataclass(frozen=True, kw_only=True)
class Keepalive:
    """Pings that notice a dead connection while calls wait."""

    #: Servers answer pings that come more often than every 300 s with GOAWAY, unless they are told otherwise.
    interval_s: float = 330.0
    timeout_s: float = 20.0

    def __post_init__(self) -> None:
        """Refuse times that are not times."""
        _require(self.interval_s > 0, "interval_s", "above 0", self.interval_s)
        _require(self.timeout_s > 0, "timeout_s", "above 0", self.timeout_s)


@dataclass(frozen=True, kw_only=True)
class TLS:
    """Certificates, PEM files. With `certificate` and `private_key` the client shows its own (mTLS)."""

    #: The authorities trusted; without one, gRPC's built-in list.
    ca: str | os.PathLike[str] | None = None
    certificate: str | os.PathLike[str] | None = None
    private_key: str | os.PathLike[str] | None = None
    #: The name the server's certificate is for, where it is not the address's.
    server_name: str | None = None

    def __post_init__(self) -> None:
        """Refuse half a key pair."""
        if (self.certificate is None) != (self.private_key is None):
            raise ConfigError("TLS needs certificate and private_key together, or neither")

    def read(self, name: Literal["ca", "certificate", "private_key"]) -> bytes | None:
        """Return a file's bytes, or None where none is named."""
        path = getattr(self, name)
        if path is None:
            return None
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as exc:
            raise ConfigError(f"TLS {name}: {exc}") from exc


def _require(holds: bool, name: str, expected: str, received: object) -> None:
    if not holds:
        raise ConfigError(f"{name} must be {expected}, not {received}")
