"""One version of one model: a SavedModel in its own graph and session, as TensorFlow Serving runs it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.saved_model import loader_impl

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
from . import batch_counter

DEFAULT_SIGNATURE = "serving_default"

#: Sets of outputs that are kept ready: callers choose them, so there may be very many.
_MAX_CALLABLES = 128

#: Times that a step is run until it tells its own error.
_MAX_RUNS = 5

#: Kernels' errors that say what is wrong with the request. Any other is the server's own trouble.
_KERNEL_ERRORS: dict[type[tf.errors.OpError], type[RequestError]] = {
    tf.errors.InvalidArgumentError: InvalidArgument,
    tf.errors.FailedPreconditionError: FailedPrecondition,
    tf.errors.NotFoundError: NotFound,
    tf.errors.OutOfRangeError: OutOfRange,
    tf.errors.ResourceExhaustedError: ResourceExhausted,
    tf.errors.UnavailableError: Unavailable,
    tf.errors.UnimplementedError: Unimplemented,
    tf.errors.AbortedError: Aborted,
    tf.errors.DeadlineExceededError: DeadlineExceeded,
}


class Servable:
    """A loaded SavedModel.

    Thread-safe. TensorFlow computes outside the GIL.
    """

    def __init__(self, path: Path, options: ModelOptions) -> None:
        self._graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=self._graph, config=_session_config(options))
        self._callable = functools.lru_cache(_MAX_CALLABLES)(self._make_callable)
        self._making = threading.Lock()
        self._batches: batch_counter.Table | None = None
        try:
            loader = loader_impl.SavedModelLoader(str(path))
            batches = batch_counter.instrument(loader.get_meta_graph_def_from_tags(list(options.tags)))
            with self._graph.as_default():
                meta_graph = loader.load(self._session, list(options.tags))
            self._batches = batch_counter.Table(self._session) if batches else None
        except BaseException:
            self.close()
            raise
        #: The signatures, by name, as the SavedModel has them.
        self.signatures: dict[str, Any] = dict(meta_graph.signature_def)

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
            if array.dtype != _numpy_dtype(dtype):
                raise _type_error(position, dtype, array)
        fetches = tuple(signature.outputs[alias].name for alias in aliases)
        try:
            with self._making:  # or callers who come at once would each make their own
                run = self._callable(tuple(name for name, _, _ in feeds), fetches)
            results = _run_to_its_error(run, [array for _, _, array in feeds])
        except tf.errors.OpError as exc:
            raise _request_error(exc) from exc
        return dict(zip(aliases, map(_as_array, results), strict=True))

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
        self._callable.cache_clear()
        self._batches = None
        self._session.close()
        del self._session, self._graph
        gc.collect()  # a graph and its operations refer to each other
        _trim()

    def _make_callable(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Callable[..., list[Any]]:
        # `Session.run` costs 5 times as much before TensorFlow is reached, and refuses what only the kernels may judge:
        # shapes that differ from the placeholder's.
        options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
        run: Callable[..., list[Any]] = self._session._make_callable_from_options(options)
        return run


def _run_to_its_error(run: Callable[..., list[Any]], arrays: Sequence[np.ndarray[Any, Any]]) -> list[Any]:
    """Runs a step again where it was cancelled, which nobody here asks for.

    Where an operation in a loop fails, TensorFlow cancels the loop, and now and then tells of that alone.
    """
    for _ in range(_MAX_RUNS - 1):
        with contextlib.suppress(tf.errors.CancelledError):
            return run(*arrays)
    return run(*arrays)


def _session_config(options: ModelOptions) -> Any:
    return config_pb2.ConfigProto(
        intra_op_parallelism_threads=options.intra_op_threads, inter_op_parallelism_threads=options.inter_op_threads
    )


def _trim() -> None:
    # glibc keeps what many threads freed: after 20 versions twice the memory in use.
    process = ctypes.CDLL(None)
    if hasattr(process, "malloc_trim"):
        process.malloc_trim(0)


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
            array = tf.make_ndarray(signature.defaults[alias])
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


@functools.cache
def _numpy_dtype(dtype: int) -> np.dtype[Any]:
    numpy_dtype: np.dtype[Any] = np.dtype(tf.dtypes.as_dtype(dtype).as_numpy_dtype)
    return numpy_dtype


def _type_error(position: int, expected: int, array: np.ndarray[Any, Any]) -> InvalidArgument:
    given = tf.dtypes.as_dtype(array.dtype).as_datatype_enum
    return InvalidArgument(f"Expects arg[{position}] to be {dtype_name(expected)} but {dtype_name(given)} is provided")


def dtype_name(dtype: int) -> str:
    """Returns the name that TensorFlow's C++ messages use, such as `float` for `DT_FLOAT`."""
    return str(types_pb2.DataType.Name(dtype)).removeprefix("DT_").lower()


def _set(names: Any) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _as_array(result: Any) -> np.ndarray[Any, Any]:
    # TensorFlow hands a scalar string over as `bytes`, which numpy would cut at trailing zeros.
    return np.asarray(result, dtype=object) if isinstance(result, bytes) else np.asarray(result)


def _request_error(exc: tf.errors.OpError) -> RequestError:
    for kind, error in _KERNEL_ERRORS.items():
        if isinstance(exc, kind):
            return error(exc.message)
    return Internal("The model failed; the server's log says why.")
