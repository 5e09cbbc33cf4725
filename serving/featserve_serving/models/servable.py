"""One version of one model: a SavedModel in its own graph and session, as TensorFlow Serving runs it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..allocator import trim
from ..c_api import saved_model
from ..c_api.library import OpError
from ..c_api.session import Session
from ..errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    RequestError,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from ..options import ModelOptions
from ..protos import dtypes
from ..protos.generated import config_pb2
from ..protos.tensors import to_array
from . import batch_counter

DEFAULT_SIGNATURE = "serving_default"

#: Steps, each of its own inputs and outputs, that TensorFlow may keep ready until the version is unloaded. Callers
#: choose the outputs, so there may be very many.
_MAX_STEPS = 128

#: Times that a step is run until it tells its own error.
_MAX_RUNS = 5

_CANCELLED = 1
#: Kernels' errors that say what is wrong with the request, by TensorFlow's code. Any other is the server's own trouble.
_KERNEL_ERRORS: dict[int, type[RequestError]] = {
    3: InvalidArgument,
    4: DeadlineExceeded,
    5: NotFound,
    8: ResourceExhausted,
    9: FailedPrecondition,
    10: Aborted,
    11: OutOfRange,
    12: Unimplemented,
    14: Unavailable,
}


class Servable:
    """A loaded SavedModel.

    Thread-safe. TensorFlow computes outside the GIL.
    """

    def __init__(self, path: Path, options: ModelOptions) -> None:
        self._prepared: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()
        self._preparing = threading.Lock()
        self._batches: batch_counter.Table | None = None
        meta_graph = saved_model.read(path, options.tags)
        #: The signatures, by name, as the SavedModel has them: copies, for a part of a message keeps all of its memory.
        self.signatures: dict[str, Any] = {
            name: type(signature).FromString(signature.SerializeToString())
            for name, signature in meta_graph.signature_def.items()
        }
        batches = batch_counter.instrument(meta_graph.graph_def)
        self._session = Session(_session_config(options))
        try:
            saved_model.load(meta_graph, path, self._session)
            self._batches = batch_counter.Table(self._session) if batches else None
        except BaseException:
            self.close()
            raise

    def run(
        self, signature_name: str, inputs: Mapping[str, np.ndarray[Any, Any]], output_filter: Sequence[str] = ()
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Computes the outputs of a signature.

        Args:
            signature_name: key of the signature; empty means the default one.
            inputs: arrays by input alias; shapes are the graph's to check.
            output_filter: aliases of the outputs to compute; none means all.
        """
        signature = self.signature(signature_name)
        feeds = _feeds(signature, inputs)
        aliases = _output_aliases(signature, output_filter)
        for position, (_, dtype, array) in enumerate(feeds):
            if array.dtype != dtypes.NUMPY.get(dtype):
                raise _type_error(position, dtype, array)
        try:
            return self._run(signature, {name: array for name, _, array in feeds}, aliases)
        except OpError as exc:
            raise _request_error(exc) from exc

    def signature(self, name: str) -> Any:
        """Returns the signature of this name; empty means the default one."""
        name = name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise FailedPrecondition(f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def executed_batches(self) -> list[int]:
        """Returns how many batches of each size were executed; empty if the graph does not batch."""
        return self._batches.counts() if self._batches else []

    def close(self) -> None:
        """Gives the memory back. No call may be running."""
        self._batches = None
        self._session.close()
        trim()

    def _run(
        self, signature: Any, feeds: Mapping[str, np.ndarray[Any, Any]], aliases: Sequence[str]
    ) -> dict[str, np.ndarray[Any, Any]]:
        step = _step(signature, feeds, aliases)
        if step not in self._prepared and len(self._prepared) >= _MAX_STEPS:
            # All outputs make a step that others share; those that nobody asked for are dropped.
            step = _step(signature, feeds, _output_aliases(signature, ()))
        results = dict(zip(step[1], self._results(step, feeds), strict=True))
        return {alias: results[signature.outputs[alias].name] for alias in aliases}

    def _results(
        self, step: tuple[tuple[str, ...], tuple[str, ...]], feeds: Mapping[str, np.ndarray[Any, Any]]
    ) -> list[np.ndarray[Any, Any]]:
        if step not in self._prepared:
            with self._preparing:  # or callers who come at once would each prepare their own
                if step not in self._prepared:
                    try:
                        return _run_to_its_error(self._session, feeds, step[1])
                    finally:
                        self._prepared.add(step)
        return _run_to_its_error(self._session, feeds, step[1])


def _step(
    signature: Any, feeds: Mapping[str, np.ndarray[Any, Any]], aliases: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(feeds), tuple(dict.fromkeys(signature.outputs[alias].name for alias in aliases))


def _run_to_its_error(
    session: Session, feeds: Mapping[str, np.ndarray[Any, Any]], fetches: Sequence[str]
) -> list[np.ndarray[Any, Any]]:
    """Runs a step again where it was cancelled, which nobody here asks for.

    Where an operation in a loop fails, TensorFlow cancels the loop, and now and then tells of that alone.
    """
    for _ in range(_MAX_RUNS - 1):
        try:
            return session.run(feeds, fetches)
        except OpError as exc:
            if exc.code != _CANCELLED:
                raise
    return session.run(feeds, fetches)


def _session_config(options: ModelOptions) -> Any:
    return config_pb2.ConfigProto(
        intra_op_parallelism_threads=options.intra_op_threads, inter_op_parallelism_threads=options.inter_op_threads
    )


def _feeds(signature: Any, inputs: Mapping[str, np.ndarray[Any, Any]]) -> list[tuple[str, int, np.ndarray[Any, Any]]]:
    """Returns `(name in the graph, data type, array)`, ordered by name as TensorFlow numbers its arguments."""
    if len(inputs) > len(signature.inputs) or (len(inputs) < len(signature.inputs) and not signature.defaults):
        given, known = set(inputs), set(signature.inputs)
        raise InvalidArgument(
            f"input size does not match signature: {len(given)}!={len(known)} "
            f"len({_set(given)}) != len({_set(known)}). Sent extra: {_set(given - known)}. "
            f"Missing but required: {_set(known - given)}."
        )
    feeds = []
    for alias, info in sorted(signature.inputs.items()):
        if alias in inputs:
            array = inputs[alias]
        elif alias in signature.defaults:
            array = to_array(signature.defaults[alias])
        else:
            raise InvalidArgument(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {_set(inputs)}, or default input alias set: "
                f"{','.join(sorted(signature.defaults))}"
            )
        feeds.append((info.name, info.dtype, array))
    return sorted(feeds, key=lambda feed: feed[0])


def _output_aliases(signature: Any, output_filter: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_set(signature.outputs)}."
            )
        if alias in seen:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return sorted(seen or signature.outputs)


def _type_error(position: int, expected: int, array: np.ndarray[Any, Any]) -> InvalidArgument:
    return InvalidArgument(
        f"Expects arg[{position}] to be {dtypes.cpp_name(expected)} but {dtypes.cpp_name(dtypes.of(array))} is provided"
    )


def _set(names: Any) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _request_error(exc: OpError) -> RequestError:
    if kind := _KERNEL_ERRORS.get(exc.code):
        return kind(exc.message)
    return Internal("The model failed; the server's log says why.")
