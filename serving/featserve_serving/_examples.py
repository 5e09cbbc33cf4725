"""Requests that carry examples (Classify, Regress, MultiInference): the checks that TensorFlow Serving makes.

The kit's models are made for Predict, so the checks end in a refusal that names what is missing.

Reference: tensorflow_serving/servables/tensorflow/{classifier,regressor,multi_inference}.cc, util/json_tensor.cc.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format

from . import _errors, _json_requests
from ._servable import DEFAULT_SIGNATURE

#: What C++ puts before a message that it prints for people.
_DEBUG_PREFIX = "goo.gle/debugonly   \n"


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a signature must have to be called this way."""

    name: str
    kind: str
    signature_method: str
    outputs: tuple[str, ...]
    output_counts: tuple[int, ...]


CLASSIFY = Method(
    name="Classify",
    kind="classification",
    signature_method="tensorflow/serving/classify",
    outputs=("classes", "scores"),
    output_counts=(1, 2),
)
REGRESS = Method(
    name="Regress",
    kind="regression",
    signature_method="tensorflow/serving/regress",
    outputs=("outputs",),
    output_counts=(1,),
)
_BY_SIGNATURE_METHOD = {method.signature_method: method for method in (CLASSIFY, REGRESS)}


def check(signature: Any, method: Method) -> None:
    """Refuse a signature that is not made for the method.

    Raises:
        InvalidArgument: its inputs or outputs are others.
    """
    if len(signature.inputs) != 1:
        raise _errors.InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) not in method.output_counts:
        raise _errors.InvalidArgument(
            "Expected one output Tensor."
            if method is REGRESS
            else f"Expected one or two output Tensors, found {len(signature.outputs)}"
        )
    printed = _DEBUG_PREFIX + text_format.MessageToString(signature)
    if "inputs" not in signature.inputs:
        raise _errors.InvalidArgument(f"No {method.kind} inputs found in SignatureDef: {printed}")
    if not any(name in signature.outputs for name in method.outputs):
        raise _errors.InvalidArgument(
            f"No regression outputs found in SignatureDef: {printed}"
            if method is REGRESS
            else "Expected classification signature outputs to contain at least one of "
            f'"classes" or "scores". Signature was: {printed}'
        )


def check_tasks(signatures: Mapping[str, Any], tasks: Iterable[tuple[str, str, str]]) -> None:
    """Refuse tasks of MultiInference that contradict each other or the model.

    Args:
        signatures: the model's signatures, by name.
        tasks: model, signature and method of each task.

    Raises:
        InvalidArgument: a model, signature or method does not fit.
        Unimplemented: a method is unknown.
    """
    first, seen = "", set()
    for model, signature_name, method_name in tasks:
        if not model:
            raise _errors.InvalidArgument("Found ModelSpec with an empty model name.")
        first = first or model
        if model != first:
            raise _errors.InvalidArgument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = signature_name or DEFAULT_SIGNATURE
        if name in seen:
            raise _errors.InvalidArgument(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        if name not in signatures:
            raise _errors.InvalidArgument(f"Requested signature not found in model graph: {name}")
        if method_name not in _BY_SIGNATURE_METHOD:
            raise _errors.Unimplemented(f"Unsupported signature method_name: {method_name}")
        check(signatures[name], _BY_SIGNATURE_METHOD[method_name])


def check_json(document: dict[str, Any]) -> None:
    """Refuse the body of a classify or regress request that holds no list of examples.

    Raises:
        InvalidArgument: a key is missing, or a value has another type.
    """
    if "context" in document:
        _check_example(document["context"])
    if "examples" not in document:
        raise _json_requests.format_error(
            document, "When method is classify, key 'examples' is expected and was not found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise _json_requests.format_error(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise _json_requests.format_error(document, "'examples' value is an empty array")
    for example in examples:
        _check_example(example)


def _check_example(example: Any) -> None:
    if not isinstance(example, dict):
        raise _errors.InvalidArgument(f"Example must be JSON object but got JSON {_json_requests.type_name(example)}")
    for name, feature in example.items():
        kind = None
        for value in feature if isinstance(feature, list) else [feature]:
            kind = _feature_kind(name, value, kind)


def _feature_kind(name: str, value: Any, kind: str | None) -> str:
    """Return the kind of list that a feature's values make; it must stay the same."""
    if value is None or isinstance(value, list) or (isinstance(value, dict) and not _json_requests.is_base64(value)):
        raise _errors.InvalidArgument(
            f"Feature: {name} has element with unexpected JSON type: {_json_requests.type_name(value)}"
        )
    own = "bytes" if isinstance(value, (str, dict)) else "int64"
    if isinstance(value, float) or (own == "int64" and not -(2**63) <= value < 2**64):
        own = "float"
    if kind not in (None, own):
        raise _errors.InvalidArgument(f"Unexpected element type in feature: {name} expecting type: {kind}")
    if own == "int64" and value >= 2**63:
        raise _errors.InvalidArgument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    if isinstance(value, dict):
        _json_requests.decode_base64(value)
    return own
