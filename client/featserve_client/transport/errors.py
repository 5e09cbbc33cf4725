"""The one place where gRPC's errors become the client's own."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

import grpc

from ..exceptions import (
    ConnectError,
    DeadlineExceeded,
    InvalidRequest,
    MessageTooLarge,
    ModelNotFound,
    ServerError,
    ServerOverloaded,
    TransportError,
)
from .probe import Responder

#: The error of every code but OK. Codes that say "no answer" are transport errors, all others the server's answer.
ERRORS: dict[grpc.StatusCode, type[TransportError | ServerError]] = {
    grpc.StatusCode.CANCELLED: TransportError,
    grpc.StatusCode.UNKNOWN: ServerError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    grpc.StatusCode.ALREADY_EXISTS: ServerError,
    grpc.StatusCode.PERMISSION_DENIED: ServerError,
    grpc.StatusCode.UNAUTHENTICATED: ServerError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ServerOverloaded,
    grpc.StatusCode.FAILED_PRECONDITION: ServerError,
    grpc.StatusCode.ABORTED: ServerError,
    grpc.StatusCode.UNIMPLEMENTED: ServerError,
    grpc.StatusCode.INTERNAL: ServerError,
    grpc.StatusCode.UNAVAILABLE: ConnectError,
    grpc.StatusCode.DATA_LOSS: ServerError,
    grpc.StatusCode.OUT_OF_RANGE: ServerError,
}

# The texts of gRPC core are "CLIENT: Received message larger than max (5000016 vs. 4194304)", or SERVER, or Sent.
_TOO_LARGE = re.compile(
    r"(?P<side>CLIENT|SERVER)?:?.*(?P<verb>Received|Sent) message.* larger than max "
    r"\((?P<size>\d+) vs\.? (?P<limit>\d+)\)"
)

# The texts of gRPC core and BoringSSL for connections that do not come about.
_UNTRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED: (?P<reason>[^:]+)")
_NO_TLS = re.compile(r"WRONG_VERSION_NUMBER")
_NO_HTTP2 = re.compile(r"Failed parsing HTTP/2")
_WRONG_NAME = re.compile(r"Hostname Verification Check failed|is not in peer certificate", re.IGNORECASE)
_CLOSED = re.compile(r"failed to connect.*(Socket closed|Connection reset|recvmsg)")
_REFUSED = re.compile(r"failed to connect.*Connection refused")
_LOADING = re.compile(r"is being loaded")
_TOKEN = re.compile(r"Getting metadata from plugin failed with error: (?P<reason>.*)", re.DOTALL)

_UNKNOWN_MODEL = re.compile(r"Could not find any versions of model")
_UNKNOWN_LABEL = re.compile(r"Unrecognized servable version label")
# TensorFlow puts the names of its nodes around what the exported graph says.
_ASSERTION = re.compile(r"assertion failed: \[(?P<sentence>.*?)\]\s*(?:\[\[|$)", re.DOTALL)
_NODES = re.compile(r"\s*\[\[\{\{.*", re.DOTALL)
_UNKNOWN_SIGNATURE = re.compile(r"Serving signature key .* not found")


#: Tries of a call that the server refuses with a hint when to come back.
_PUSHBACK_ATTEMPTS = 5
#: Seconds between two looks at a server that is loading the model.
_LOADING_S = 0.2
_PUSHBACK = "grpc-retry-pushback-ms"


@dataclass(frozen=True, kw_only=True)
class CallContext:
    """The call that failed, as far as an error's text needs it."""

    target: str
    model: str
    timeout_s: float
    request_id: str = ""
    version: int | None = None
    label: str | None = None
    #: Who answers at the address, where it was asked by hand.
    answer: Responder | None = None
    secure: bool = False
    #: The environment's variable whose proxy the connection goes through; None where there is none.
    proxy: str | None = None


def translate(code: grpc.StatusCode, details: str | None, context: CallContext) -> TransportError | ServerError:
    """Returns the error for a status, with a text that a user can act on."""
    details = _sentence(details or "")
    where = f"model {context.model!r} at {context.target}" if context.model else context.target
    kind = ERRORS.get(code, ServerError)
    if code is grpc.StatusCode.INVALID_ARGUMENT and _UNKNOWN_LABEL.search(details):
        kind = ModelNotFound
    too_large = _TOO_LARGE.search(details) if code is grpc.StatusCode.RESOURCE_EXHAUSTED else None
    if too_large:
        kind = MessageTooLarge
        size, limit = int(too_large["size"]), int(too_large["limit"])
        if too_large["verb"] == "Received" and too_large["side"] != "SERVER":
            message = (
                f"the answer has {size} bytes, more than max_message_bytes={limit} (--max-message-bytes): raise it, "
                "ask for fewer layers, or lower max_request_images"
            )
        elif too_large["verb"] == "Sent" and too_large["side"] != "SERVER":
            message = (
                f"the request has {size} bytes, more than max_message_bytes={limit} (--max-message-bytes): raise it"
            )
        else:
            message = (
                f"the server takes at most {limit} bytes in one message and {size} were needed: lower "
                'max_request_bytes and max_request_images, use decode="client", or raise the server\'s own limit'
            )
    elif kind is ConnectError:
        message = _no_connection(details, context)
        if context.proxy:
            message += f". It was tried through the proxy in ${context.proxy}; no_grpc_proxy=HOST leaves that out"
    elif kind is DeadlineExceeded:
        message = f"no answer from {where} within timeout_s={context.timeout_s:g} seconds"
    elif kind is ModelNotFound:
        message = _not_found(where, details, context)
    elif kind is ServerOverloaded:
        message = f"{where} is overloaded: {details}"
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        message = f"the server at {context.target} does not offer TensorFlow Serving's gRPC API: {details}"
    else:
        message = f"{where} answered {code.name}: {details}"
    if code is grpc.StatusCode.FAILED_PRECONDITION and _UNKNOWN_SIGNATURE.search(details):
        kind = InvalidRequest
    return kind(
        message,
        code=code,
        details=details,
        target=context.target,
        model=context.model,
        request_id=context.request_id,
    )


def _sentence(details: str) -> str:
    found = _ASSERTION.search(details)
    return found["sentence"] if found else _NODES.sub("", details)


def _not_found(where: str, details: str, context: CallContext) -> str:
    # The server's words may be the same for a model that it lacks and for a version that a model lacks.
    unknown_model = _UNKNOWN_MODEL.search(details)
    if context.version is not None and not unknown_model:
        return (
            f"{where}: no version {context.version} is served (if the server has the model at all: featserve status "
            f"lists its versions): {details}"
        )
    if context.label is not None and not unknown_model:
        return f"{where}: no version has the label {context.label!r}: {details}"
    return (
        f"{where} not found: {details}. The server is there, and TensorFlow Serving's API lists no models: name one "
        "of its models.config or its --model_name with model= (--model)"
    )


def is_unclear(code: grpc.StatusCode, details: str | None) -> bool:
    """Whether the words for a connection that did not come about leave open why: the address tells more.

    gRPC tells the last failure alone: of `localhost` it may be that nothing listens at ::1, though 127.0.0.1 answered.
    """
    words = details or ""
    return code is grpc.StatusCode.UNAVAILABLE and bool(_CLOSED.search(words) or _REFUSED.search(words))


def _no_connection(details: str, context: CallContext) -> str:
    target = context.target
    if _LOADING.search(details):
        return f"the server at {target} is starting: {details}"
    if found := _UNTRUSTED.search(details):
        reason = found["reason"]
        if "expired" in reason or "not yet valid" in reason:
            reason += ", by the clock of this machine"
        return f"the certificate of the server at {target} is refused: {reason} ({details})"
    if _WRONG_NAME.search(details):
        return f"the certificate of the server at {target} is for another name: see server_name ({details})"
    if _NO_TLS.search(details) or (context.answer == "grpc" and context.secure):
        return f"the server at {target} does not speak TLS: leave tls= (--ca) out ({details})"
    if _NO_HTTP2.search(details):
        return f"the server at {target} does not speak gRPC; perhaps this is the port of its REST API ({details})"
    if found := _TOKEN.search(details):
        return f"no call to {target} without a bearer token, and there is none: {found['reason']}"
    if context.answer == "tls" and context.secure and _REFUSED.search(details):
        return (
            f"the server at {target} speaks TLS, and one side refused the other: see that its certificate bears this "
            "name and comes from the authority in tls=TLS(ca=...) (--ca), and whether it wants a client's certificate "
            f"({details})"
        )
    if context.answer == "tls" and context.secure:
        return (
            f"the server at {target} speaks TLS and ended the connection: it wants a client's certificate that it "
            f"trusts (certificate= and private_key= of tls; --certificate, --private-key) ({details})"
        )
    if context.answer == "tls":
        return (
            f"the server at {target} speaks TLS alone: name the authority of its certificate with tls=TLS(ca=...) "
            f"(--ca PEM) ({details})"
        )
    if context.answer == "http":
        return f"a web server answers at {target}, perhaps the REST API: gRPC has a port of its own ({details})"
    if _CLOSED.search(details):
        return f"no server at {target}: {details}; perhaps it wants TLS, or a certificate that it trusts (tls=, --ca)"
    if (
        _REFUSED.search(details) and not context.proxy
    ):  # gRPC writes the address as in a URL, and the last of several alone
        details = "nothing listens there"
    return (
        f"no server at {target}: {details}. Start one with `featserve-serve --model_root build/models`, or name the "
        "address of another with --server HOST:PORT"
    )


def pushback_s(error: grpc.RpcError, attempt: int, left_s: float, *, wait_for_ready: bool = False) -> float | None:
    """Returns the seconds after which the server is to be called again, because it asks for it or is starting.

    Args:
        error: the error that came back.
        attempt: how many times the call was tried.
        left_s: seconds until the call's deadline.
        wait_for_ready: whether to wait for a server that is still loading the model.

    Returns:
        None if the server does not ask, has asked often enough, or asks too late for the call's deadline.
    """
    if wait_for_ready and error.code() is grpc.StatusCode.UNAVAILABLE and _LOADING.search(error.details() or ""):
        return _LOADING_S if _LOADING_S < left_s else None
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or attempt >= _PUSHBACK_ATTEMPTS:
        return None
    for key, value in error.trailing_metadata() or ():
        text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
        if key == _PUSHBACK and text.isdigit():
            # The pause is up to a fifth longer, so that callers refused together do not come back together.
            wait_s = int(text) / 1000 * (1 + random.random() / 5)  # noqa: S311
            return wait_s if wait_s < left_s else None
    return None
