"""TLS: certificates checked before a port opens, for gRPC and REST alike."""

from __future__ import annotations

import contextlib
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
from google.protobuf import text_format

from ..errors import SetupError
from ..protos import text_files
from ..protos.config_pb2 import SSLConfig

#: X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED.
_TIME_CODES = (9, 10)


def read_ssl_config(path: Path) -> SSLConfig:
    """Reads and checks an `SSLConfig` text proto.

    Raises:
        SetupError: the file is malformed, or its certificate and key do not belong together.
    """
    config = text_files.read(path, SSLConfig())
    _warn_of_time(ssl_context(config, str(path)), config, str(path))
    return config


def from_pem_files(cert: Path, key: Path, client_ca: Path | None) -> str:
    """Returns the text of an `SSLConfig` with the files' content inside, as its schema wants.

    Args:
        cert: the server's certificate, then the intermediates.
        key: its private key.
        client_ca: the authority that clients' certificates must come from; `None` asks clients for none.

    Raises:
        SetupError: a file cannot be read, or certificate and key do not belong together.
    """
    config = SSLConfig(server_key=_pem(key), server_cert=_pem(cert))
    if client_ca is not None:
        config.custom_ca, config.client_verify = _pem(client_ca), True
    _warn_of_time(ssl_context(config, f"{cert}, {key}"), config, str(cert))
    return text_format.MessageToString(config)


def credentials(config: SSLConfig) -> grpc.ServerCredentials:
    """Returns the credentials with which gRPC listens."""
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def ssl_context(config: SSLConfig, source: str) -> ssl.SSLContext:
    """Returns the context with which the REST server listens.

    Args:
        config: certificate, key and authority as PEM text.
        source: where they come from, for the error text.

    Raises:
        SetupError: OpenSSL does not take them.
    """
    if config.client_verify and not config.custom_ca:
        raise SetupError(f"{source}: client_verify needs custom_ca, the authority of the clients' certificates")
    if "ENCRYPTED" in config.server_key:
        raise SetupError(
            f"{source}: server_key: expected a key without a passphrase, received an encrypted one; "
            "openssl pkey -in KEY -out PLAIN_KEY decrypts it"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        with _in_memory(config.server_cert) as cert, _in_memory(config.server_key) as key:
            context.load_cert_chain(cert, key)
    except (ssl.SSLError, ValueError) as exc:
        mismatch = "KEY_VALUES_MISMATCH" in str(exc)
        reason = "the key is not the certificate's" if mismatch else "not PEM text of a certificate and its key"
        raise SetupError(f"{source}: server_cert and server_key: {reason}") from exc
    if config.custom_ca:
        try:
            context.load_verify_locations(cadata=config.custom_ca)
        except (ssl.SSLError, ValueError) as exc:
            raise SetupError(f"{source}: custom_ca: not PEM text of a certificate") from exc
    if config.client_verify:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _warn_of_time(context: ssl.SSLContext, config: SSLConfig, source: str) -> None:
    """Warns of a certificate whose time has passed or not come: a handshake in memory finds out as a client does."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=config.server_cert)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server_end = context.wrap_bio(to_server, to_client, server_side=True)
    client_end = client.wrap_bio(to_client, to_server)
    for end in (client_end, server_end, client_end):
        try:
            end.do_handshake()
        except ssl.SSLCertVerificationError as exc:
            if exc.verify_code in _TIME_CODES:
                print(f"featserve-serve: {source}: clients will refuse it: {exc.verify_message}", file=sys.stderr)
            return
        except ssl.SSLError:
            continue


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """Offers a text as a file that is on no disk: OpenSSL reads a key from a path only."""
    descriptor = os.memfd_create("featserve-pem")
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _pem(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError as exc:
        raise SetupError(f"{path}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise SetupError(f"{path}: expected PEM text, received other bytes") from exc
