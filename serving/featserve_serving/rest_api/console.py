"""The console on the REST port: the page of `featserve_console`, fed by this process."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import Any

import numpy as np
from featserve_console import (
    Address,
    Answer,
    Description,
    Signature,
    SourceError,
    Tensor,
    VersionState,
    console_app,
)
from starlette.types import Receive, Scope, Send

from ..core.admission import Pools
from ..core.handlers import Handlers, Prediction, Signatures
from ..errors import RequestError, ResourceExhausted
from ..models.state import ModelRef
from ..options import ServerOptions
from ..protos import dtypes
from ..telemetry.call import Call, request_id_of
from ..telemetry.metrics import Metrics
from ..telemetry.recorder import Recorder
from . import responses

_ENTRYPOINT = "REST"
#: The signature in which the kit's models carry their manifest, and its output.
_MANIFEST = "manifest"
#: Descriptions kept: as many as versions may be looked at in turn.
_MAX_KEPT = 64


class Console:
    """The page as an ASGI application, for `/` and `/console/`: TensorFlow Serving has nothing there.

    Its calls take the same threads as other requests to a model, are refused as they are, and are counted with them.

    Args:
        handlers: what the page asks for.
        recorder: keeps the record of its calls.
        metrics: the metrics that it shows, unless they are off.
        pools: the threads of its calls.
        options: the limits, and the names by which browsers may call the page.
        metrics_on: whether the operator lets the metrics be seen.
        ports: gives the ports of gRPC and REST, once they are known.
        mutual_tls: whether callers show a certificate; `None` without TLS.
    """

    def __init__(
        self,
        handlers: Handlers,
        recorder: Recorder,
        metrics: Metrics,
        pools: Pools,
        options: ServerOptions,
        *,
        metrics_on: bool,
        ports: Callable[[], tuple[int, int | None]],
        mutual_tls: bool | None,
    ) -> None:
        self._handlers = handlers
        self._recorder = recorder
        self._metrics = metrics
        self._pools = pools
        self._options = options
        self._metrics_on = metrics_on
        self._ports = ports
        self._mutual_tls = mutual_tls
        self._kept: dict[tuple[str, int], tuple[Signatures, Description]] = {}
        own = (options.rest_address or "").rpartition(":")[0]
        self._app = console_app(self, (own, socket.gethostname(), *options.console_hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        await self._app(scope, receive, send)

    # The questions of the page to its source.

    @property
    def max_upload_bytes(self) -> int:
        """Bytes of the largest image file that is taken."""
        return self._options.max_message_bytes

    def address(self, host: str) -> Address:
        """Returns where code reaches the server, by the name that the browser uses."""
        port, rest_port = self._ports()
        tls = self._mutual_tls is not None
        return Address(
            grpc=f"{host}:{port}" if port else f"unix:{self._options.socket_path}",
            rest=f"{'https' if tls else 'http'}://{host}:{rest_port}",
            tls=tls,
            mutual_tls=bool(self._mutual_tls),
        )

    def models(self) -> Mapping[str, Sequence[VersionState]]:
        """Returns the versions of each model, newest first."""
        return {
            name: [
                VersionState(
                    version=each.version,
                    state=each.state.name,
                    error=each.error_message,
                    labels=each.labels,
                    since=each.since,
                )
                for each in statuses
            ]
            for name, statuses in self._handlers.every_status().items()
        }

    def describe(self, model: str, version: int | None) -> Description:
        """Returns the description of a version; `None` stands for the newest."""
        with _sentences():
            found = self._handlers.signatures(ModelRef(name=model, version=version))
            kept = self._kept.get((model, found.version))
            if kept is None or kept[0].signatures is not found.signatures:
                if len(self._kept) >= _MAX_KEPT:
                    self._kept.clear()
                kept = self._kept[model, found.version] = found, self._description(found)
        return kept[1]

    def predict(
        self, model: str, version: int, signature: str, inputs: Mapping[str, Sequence[bytes]], outputs: Sequence[str]
    ) -> Answer:
        """Calls a signature, in a thread of the requests to models."""
        arrays = {name: np.array(values, dtype=object) for name, values in inputs.items()}
        call = Call(method="predict", entrypoint=_ENTRYPOINT, request_id=request_id_of(()))
        asked = time.perf_counter()

        def work() -> tuple[float, Prediction]:
            began = time.perf_counter()
            return began, self._handlers.predict(ModelRef(name=model, version=version), signature, arrays, outputs)

        with _sentences():
            self._admit()
            future = self._pools.compute.submit(self._recorder.run, call, work)
            try:
                began, found = future.result(self._options.rest_timeout_s)
            except FutureTimeoutError as exc:
                future.cancel()
                raise SourceError(f"No answer within {self._options.rest_timeout_s:g} s.", 504) from exc
        return Answer(
            outputs=found.outputs,
            waited_ms=1000 * (began - asked),
            computed_ms=None if call.runtime_s is None else 1000 * call.runtime_s,
        )

    def metrics(self) -> str | None:
        """Returns the metrics in Prometheus' text format."""
        if not self._metrics_on:
            raise SourceError("The metrics are turned off by --monitoring_config_file.", 404)
        return self._metrics.page().decode()

    def _admit(self) -> None:
        try:
            self._pools.compute.admit()
        except ResourceExhausted:
            self._metrics.refused(_ENTRYPOINT)
            raise

    def _description(self, found: Signatures) -> Description:
        manifest = None
        if _MANIFEST in found.signatures:
            answer = self._handlers.predict(ModelRef(name=found.model, version=found.version), _MANIFEST, {})
            try:
                manifest = json.loads(answer.outputs[_MANIFEST].item())
            except (KeyError, ValueError, TypeError) as exc:
                raise SourceError(f"The manifest of model {found.model} cannot be read: {exc}", 502) from exc
        signatures = {
            name: Signature(inputs=_tensors(each.inputs), outputs=_tensors(each.outputs))
            for name, each in found.signatures.items()
            if not name.startswith("__saved_model")
        }
        return Description(version=found.version, signatures=signatures, manifest=manifest)


@contextmanager
def _sentences() -> Iterator[None]:
    """Turns refusals into sentences for the page."""
    try:
        yield
    except RequestError as exc:
        raise SourceError(str(exc), responses.http_code(exc)) from exc


def _tensors(infos: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: _tensor(info) for name, info in sorted(infos.items())}


def _tensor(info: Any) -> Tensor:
    shape = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
    return Tensor(dtype=dtypes.python_name(info.dtype), shape=None if info.tensor_shape.unknown_rank else shape)
