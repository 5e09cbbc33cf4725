"""The common part of a client's calls, whichever way they are waited for."""

from __future__ import annotations

from typing import Any

import grpc

from ..config import ClientSettings
from ..exceptions import FeatserveError
from .address import check_target, is_host_port, proxy_variable, resolve
from .channel import COMPRESSION, channel_options
from .credentials import check_metadata, check_token, credentials
from .errors import CallContext, is_unclear, pushback_s, translate
from .probe import Responder, probe

_PROBE_S = 1.0


class Endpoint:
    """A server and how it is called."""

    def __init__(self, settings: ClientSettings) -> None:
        check_target(settings.target)
        check_metadata(settings.metadata)
        if isinstance(settings.token, str):
            check_token(settings.token)
        self._settings = settings
        self.interceptors = settings.interceptors

    def channel_arguments(self) -> tuple[str, list[tuple[str, Any]], grpc.ChannelCredentials | None]:
        """Returns a channel's target, options and, for TLS, credentials.

        Raises:
            ConfigError: a certificate cannot be read, or is not what gRPC needs.
            ConnectError: no host name of several is known.
        """
        settings = self._settings
        secure = credentials(settings.tls, settings.token) if settings.tls else None
        return resolve(settings.target), channel_options(settings), secure

    def call_arguments(self, request_id: str, timeout_s: float) -> dict[str, Any]:
        """Returns the arguments that gRPC takes with a request."""
        return {
            "timeout": max(timeout_s, 0.001),
            "metadata": tuple(self._metadata(request_id).items()),
            "wait_for_ready": self._settings.wait_for_ready,
            "compression": COMPRESSION[self._settings.compression],
        }

    def pause_s(self, error: grpc.RpcError, attempt: int, left_s: float) -> float | None:
        """Returns the seconds after which a call is to be tried again; None if it is not."""
        return pushback_s(error, attempt, left_s, wait_for_ready=self._settings.wait_for_ready)

    def error(self, code: grpc.StatusCode, details: str | None, *, request_id: str, timeout_s: float) -> FeatserveError:
        """Returns the client's own error for a call's status."""
        context = CallContext(
            target=self._settings.target,
            model=self._settings.model,
            timeout_s=timeout_s,
            request_id=self._metadata(request_id)["x-request-id"],
            version=self._settings.version,
            label=self._settings.label,
            proxy=proxy_variable(self._settings.target),
            answer=self._answer() if is_unclear(code, details) else None,
            secure=self._settings.tls is not None,
        )
        return translate(code, details, context)

    def _answer(self) -> Responder | None:
        """Asks the address by hand; None where that is not one host and port, or is behind a proxy."""
        host, _, port = self._settings.target.rpartition(":")
        if not is_host_port(self._settings.target) or proxy_variable(self._settings.target):
            return None
        return probe(host.strip("[]"), int(port), _PROBE_S)[0]

    def _metadata(self, request_id: str) -> dict[str, str]:
        return {"x-request-id": request_id, **self._settings.metadata}
