"""A call of any signature of any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from ..exceptions import InvalidRequest, ResponseError, reworded
from ..wire.tensors import decode_predict_response, encode_tensor
from .metadata import MetadataCache
from .requests import ModelRequests
from .steps import Operation


def predict(
    requests: ModelRequests,
    cache: MetadataCache,
    inputs: Mapping[str, npt.ArrayLike],
    signature: str,
    output_filter: Sequence[str],
    timeout_s: float | None,
) -> Operation[dict[str, npt.NDArray[Any]]]:
    """Returns the outputs of one request, by name."""
    try:
        tensors = {name: encode_tensor(value) for name, value in inputs.items()}
    except TypeError as exc:
        raise InvalidRequest(f"inputs of {signature!r}: {exc}", model=requests.model) from exc
    try:
        raw = yield requests.predict(signature, tensors, output_filter, timeout_s=timeout_s)
    except InvalidRequest as exc:
        known = yield from cache.signatures(timeout_s)
        if signature not in known.signatures:
            text = f"model {requests.model!r} has no signature {signature!r}; it has {known.describe_signatures()}"
            raise reworded(exc, text) from exc
        raise
    version, outputs = decode_predict_response(raw)
    cache.answered_by(version)
    for name in output_filter:
        if name not in outputs:
            raise ResponseError(f"the answer lacks output {name!r}; it has {', '.join(sorted(outputs))}")
    return {name: array.copy() for name, array in sorted(outputs.items())}
