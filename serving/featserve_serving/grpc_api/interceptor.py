"""Every gRPC call's admission, id and record, and the one place where errors become status codes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc

from ..core.admission import BoundedPool
from ..core.texts import fit
from ..errors import RequestError
from ..telemetry.call import REQUEST_ID, Call, request_id_of
from ..telemetry.metrics import Metrics
from ..telemetry.recorder import Recorder

#: gRPC's own name for "try again after this many milliseconds"; its clients obey it.
RETRY_HINT = "grpc-retry-pushback-ms"
_ENTRYPOINT = "GRPC"


class CallInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]
    """Admits, records and answers for every call.

    Args:
        recorder: keeps the record.
        metrics: counts bytes and refusals.
        pools: the threads of each method, by its full name.
        default: the threads of every other.
    """

    def __init__(
        self, recorder: Recorder, metrics: Metrics, pools: dict[str, BoundedPool], default: BoundedPool
    ) -> None:
        self._recorder = recorder
        self._metrics = metrics
        self._pools = pools
        self._default = default
        self._admitted: dict[str, grpc.RpcMethodHandler] = {}
        self._draining = False
        self._last_arrival = 0.0

    def drain(self) -> None:
        """Refuses work from now on, in a way that makes clients try another server."""
        self._draining = True

    def wait_until_quiet(self, quiet_s: float, timeout_s: float) -> None:
        """Waits until no call has arrived for a moment."""
        end = time.monotonic() + timeout_s
        while (now := time.monotonic()) < end and now - self._last_arrival < quiet_s:
            time.sleep(quiet_s / 4)

    def intercept_service(self, continuation: Callable[..., Any], details: grpc.HandlerCallDetails) -> Any:
        """Chooses the handler: the method's own or, where its threads are too busy, a handler that refuses at once."""
        self._last_arrival = time.monotonic()
        pool = self._pools.get(details.method, self._default)
        if self._draining and pool is not self._default:
            return self._refusal(grpc.StatusCode.UNAVAILABLE, "The server is stopping.", None)
        if pool.full:
            self._metrics.refused(_ENTRYPOINT)
            hint_ms = pool.retry_after_ms()
            text = f"The server is at its limit of requests; try again in {hint_ms} ms."
            return self._refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, text, hint_ms)
        handler = self._admitted.get(details.method)
        if handler is None:
            handler = continuation(details)
            if handler is None:  # not kept: callers can name any number of unknown methods
                return None
            handler = self._admitted[details.method] = self._admit(details.method, handler, pool)
        return handler

    def _admit(self, method: str, handler: Any, pool: BoundedPool) -> Any:
        if handler.unary_unary is None or handler.request_deserializer is not None:
            return _on(pool, handler)  # health and reflection: they know how to answer for themselves
        name = method.rpartition("/")[2]

        def answer(raw: bytes, context: grpc.ServicerContext) -> bytes:
            metadata = context.invocation_metadata()
            call = Call(
                method=name,
                entrypoint=_ENTRYPOINT,
                request_id=request_id_of(metadata),
                headers={key: value for key, value in metadata if isinstance(value, str)},
            )
            context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
            try:
                response: bytes = self._recorder.run(call, lambda: handler.unary_unary(raw, context))
            except RequestError as exc:
                self._metrics.transferred(_ENTRYPOINT, len(raw), 0)
                raise context.abort(grpc.StatusCode[exc.status], fit(str(exc))) from exc
            self._metrics.transferred(_ENTRYPOINT, len(raw), len(response))
            return response

        answer.experimental_thread_pool = pool  # type: ignore[attr-defined]
        return grpc.unary_unary_rpc_method_handler(answer)

    def _refusal(self, code: grpc.StatusCode, text: str, hint_ms: int | None) -> Any:
        def refuse(_: Iterator[bytes], context: grpc.ServicerContext) -> NoReturn:
            if hint_ms is not None:
                context.set_trailing_metadata(((RETRY_HINT, str(hint_ms)),))
            raise context.abort(code, text)

        refuse.experimental_thread_pool = self._default  # type: ignore[attr-defined]
        # As a stream of requests, none of which is read: a refusal must not cost the transfer of the message.
        return grpc.stream_unary_rpc_method_handler(refuse)


def _on(pool: BoundedPool, handler: Any) -> Any:
    """Returns a foreign handler that runs in the pool, if it does not bring its own threads."""
    for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
        behavior = getattr(handler, kind)
        if behavior is not None and not hasattr(behavior, "experimental_thread_pool"):

            def run(request: Any, context: grpc.ServicerContext, behavior: Callable[..., Any] = behavior) -> Any:
                return behavior(request, context)

            run.experimental_thread_pool = pool  # type: ignore[attr-defined]
            make = getattr(grpc, f"{kind}_rpc_method_handler")
            return make(run, handler.request_deserializer, handler.response_serializer)
    return handler
