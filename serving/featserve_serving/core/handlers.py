"""The server's operations, in terms that belong to no protocol. gRPC and REST both call them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ..errors import InvalidArgument, PermissionDenied, Unimplemented
from ..models.manager import ModelManager
from ..models.servable import DEFAULT_SIGNATURE, Servable
from ..models.state import ModelRef, VersionStatus
from ..telemetry.call import current_call

#: Methods of signatures that take examples, as a SavedModel names them.
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The outputs of a signature, and what computed them."""

    model: str
    version: int
    signature_name: str
    outputs: dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class Signatures:
    """The signatures of one version, by name."""

    model: str
    version: int
    signatures: dict[str, Any]


class Handlers:
    """The operations of the server.

    Args:
        manager: the models.
        reloadable: whether callers may change the model set.
    """

    def __init__(self, manager: ModelManager, *, reloadable: bool) -> None:
        self._manager = manager
        self._reloadable = reloadable

    def predict(
        self,
        ref: ModelRef,
        signature_name: str,
        inputs: Mapping[str, np.ndarray[Any, Any]],
        output_filter: Sequence[str] = (),
    ) -> Prediction:
        """Runs a signature on the inputs."""
        with self._acquire(ref, signature_name) as (version, servable):
            started = time.perf_counter()
            outputs = servable.run(signature_name, inputs, output_filter)
            _note(runtime_s=time.perf_counter() - started)
        return Prediction(
            model=ref.name, version=version, signature_name=signature_name or DEFAULT_SIGNATURE, outputs=outputs
        )

    def signatures(self, ref: ModelRef) -> Signatures:
        """Returns the signatures of the model."""
        with self._acquire(ref) as (version, servable):
            return Signatures(model=ref.name, version=version, signatures=servable.signatures)

    def statuses(self, name: str, version: int | None) -> list[VersionStatus]:
        """Returns the states of the model's versions, newest first."""
        _note(model=name)
        return self._manager.catalog.statuses(name, version)

    def every_status(self) -> dict[str, list[VersionStatus]]:
        """Returns the states of every model's versions, newest first."""
        return self._manager.catalog.every_status()

    def refuse_examples(self, ref: ModelRef, signature_name: str, method: str) -> NoReturn:
        """Refuses Classify or Regress with the code of the real server: the kit's signatures are made for Predict.

        Args:
            ref: the model asked for.
            signature_name: key of the signature; empty means the default one.
            method: `CLASSIFY` or `REGRESS`.

        Raises:
            InvalidArgument: the signature does not exist, or is not made for the method.
            Unimplemented: the signature is made for the method, or the method is unknown.
        """
        self.refuse_multi_inference(ref, [(signature_name, method)])

    def refuse_multi_inference(self, ref: ModelRef, tasks: Iterable[tuple[str, str]]) -> NoReturn:
        """Refuses MultiInference likewise.

        Args:
            ref: the model of the first task.
            tasks: signature and method of each.

        Raises:
            InvalidArgument: a signature does not exist, or is not made for its method.
            Unimplemented: every signature is made for its method, or a method is unknown.
        """
        with self._acquire(ref) as (_, servable):
            for signature_name, method in tasks:
                name = signature_name or DEFAULT_SIGNATURE
                if method not in (CLASSIFY, REGRESS):
                    raise Unimplemented(f"Unsupported signature method_name: {method}")
                if name not in servable.signatures:
                    raise InvalidArgument(f"No signature was found with the name: {name}")
                if (made_for := servable.signatures[name].method_name) != method:
                    raise InvalidArgument(f"Signature {name} is made for {made_for}, not for {method}.")
        raise Unimplemented("The embedded server takes no examples: call Predict.")

    def reload(self, config: Any) -> None:
        """Changes to the model set of a `ModelServerConfig`."""
        if not self._reloadable:
            raise PermissionDenied("Reloading by request is off: start the server with --enable_reload_rpc.")
        if config.WhichOneof("config") != "model_config_list":
            raise InvalidArgument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        self._manager.apply(config)

    @contextmanager
    def _acquire(self, ref: ModelRef, signature_name: str | None = None) -> Iterator[tuple[int, Servable]]:
        """Holds a version for the time of a call, and notes it in the call's record."""
        _note(model=ref.name)
        with self._manager.catalog.acquire(ref) as (version, servable):
            name = signature_name or DEFAULT_SIGNATURE
            if signature_name is not None and name in servable.signatures:
                _note(signature=name)
            _note(version=version)
            yield version, servable


def _note(**facts: Any) -> None:
    call = current_call()
    if call is not None:
        for name, value in facts.items():
            setattr(call, name, value)
