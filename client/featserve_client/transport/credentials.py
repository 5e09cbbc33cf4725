"""Certificates, tokens and the headers that travel with a call."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Mapping, Sequence

import grpc

from ..config import TLS
from ..exceptions import ConfigError

_HEADER = re.compile(r"[a-z0-9_.-]+")


def check_token(token: str) -> str:
    """Returns the token if it can travel in a header; no error shows the token.

    Raises:
        ConfigError: the token is empty, or has characters that no header may have.
    """
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError("the bearer token must be printable ASCII without spaces or line breaks, and not empty")
    return token


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Returns the metadata of each call, if headers can carry it.

    Raises:
        ConfigError: a name or a value has characters that no header may have.
    """
    for key, value in metadata.items():
        if not isinstance(key, str) or not _HEADER.fullmatch(key) or key.endswith("-bin"):
            raise ConfigError(f"metadata {key!r}: expected a name of lower-case letters, digits, '-', '_' and '.'")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise ConfigError(f"metadata {key!r}: expected printable ASCII")
    return dict(metadata)


def credentials(tls: TLS, token: str | Callable[[], str] | None) -> grpc.ChannelCredentials:
    """Returns channel credentials, with a bearer token in every call where there is one.

    Raises:
        ConfigError: a file cannot be read, or is not what gRPC needs.
    """
    ca, key, certificate = tls.read("ca"), tls.read("private_key"), tls.read("certificate")
    _check_pem(tls)
    channel = grpc.ssl_channel_credentials(ca, key, certificate)
    if token is None:
        return channel
    if isinstance(token, str):
        return grpc.composite_channel_credentials(channel, grpc.access_token_call_credentials(token))

    def plugin(_: object, callback: Callable[[Sequence[tuple[str, str]], Exception | None], None]) -> None:
        try:
            callback([("authorization", f"Bearer {check_token(token())}")], None)
        except Exception as exc:  # the caller's function failed, and so does the call
            callback([], exc)

    return grpc.composite_channel_credentials(channel, grpc.metadata_call_credentials(plugin, "bearer"))


def _check_pem(tls: TLS) -> None:
    # gRPC takes any bytes here and then fails every call with "Failed to create security handshaker".
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.ca is not None:
        try:
            context.load_verify_locations(tls.ca)
        except (ssl.SSLError, OSError) as exc:
            raise ConfigError(f"TLS ca: {os.fspath(tls.ca)} holds no PEM certificate") from exc
    if tls.certificate is not None and tls.private_key is not None:
        try:
            context.load_cert_chain(tls.certificate, tls.private_key, password="")  # noqa: S106
        except (ssl.SSLError, OSError) as exc:
            raise ConfigError(
                f"TLS certificate {os.fspath(tls.certificate)} and private_key {os.fspath(tls.private_key)} are not a "
                "certificate in PEM and its own key without a password"
            ) from exc
