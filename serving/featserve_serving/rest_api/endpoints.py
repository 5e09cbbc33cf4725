"""The endpoints: from the bytes of a body to those of the response, with no HTTP around them.

Reference: tensorflow_serving/model_servers/http_rest_api_handler.cc.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any, NoReturn

from google.protobuf import json_format

from ..core import messages
from ..core.handlers import CLASSIFY, REGRESS, Handlers
from ..errors import InvalidArgument, ResourceExhausted
from ..models.servable import DEFAULT_SIGNATURE
from ..models.state import ModelRef
from ..telemetry.call import Call
from . import document, json_input, json_output, paths

#: Methods of models as they must be spelled; those with a name in the SavedModel take examples.
_MODEL_METHODS = {"predict": "", "classify": CLASSIFY, "regress": REGRESS}
_LARGE_BYTES = 1 << 20
#: Large requests at once: they wait for each other, and must not hold every thread meanwhile.
_MAX_LARGE = 8


class Endpoints:
    """The API's endpoints.

    Args:
        handlers: what the requests ask for.
    """

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers
        self._large = threading.Lock()
        self._room = threading.BoundedSemaphore(_MAX_LARGE)

    def answer(self, call: Call, http_method: str, path: str, body: bytes) -> bytes:
        """Answers a request, and notes in the call which model the request names.

        Raises:
            RequestError: the request is refused.
        """
        pattern = {"POST": paths.MODEL_CALL, "GET": paths.MODEL_VIEW}.get(http_method)
        found = pattern.fullmatch(path) if pattern else None
        if found is None or (pattern is paths.MODEL_CALL and found["method"] not in _MODEL_METHODS):
            raise InvalidArgument(f"Malformed request: {http_method} {path}")
        ref = paths.model_ref(found)
        call.model = ref.name
        if pattern is paths.MODEL_CALL:
            method = _MODEL_METHODS[found["method"]]
            return self._refuse(ref, method, body) if method else self._predict(ref, body)
        if not ref.name:
            raise InvalidArgument("Missing model name in request.")
        return self._metadata(ref) if found["metadata"] == "metadata" else self._status(ref)

    def _predict(self, ref: ModelRef, body: bytes) -> bytes:
        if len(body) <= _LARGE_BYTES:
            return self._converted(ref, body)
        if not self._room.acquire(blocking=False):
            raise ResourceExhausted("The server is at its limit of large requests; gRPC takes more of them.")
        try:
            return self._converted(ref, body)
        finally:
            self._room.release()

    def _converted(self, ref: ModelRef, body: bytes) -> bytes:
        with self._alone(len(body)):
            request = document.parse(body)
            name = request.signature_name or DEFAULT_SIGNATURE
            known = self._handlers.signatures(ref)
            if name not in known.signatures:
                raise InvalidArgument(f'Serving signature name: "{name}" not found in signature def')
            arrays, by_row = json_input.inputs(request, known.signatures[name].inputs)
            del request
        result = self._handlers.predict(ref, name, arrays)
        with self._alone(sum(array.nbytes for array in result.outputs.values())):
            return json_output.answer(result.outputs, by_row)

    def _alone(self, size_bytes: int) -> contextlib.AbstractContextManager[object]:
        """Lets one large text at a time become objects: several at once gain no speed and take the memory of all."""
        return self._large if size_bytes > _LARGE_BYTES else contextlib.nullcontext()

    def _refuse(self, ref: ModelRef, method: str, body: bytes) -> NoReturn:
        self._handlers.refuse_examples(ref, document.parse(body).signature_name, method)

    def _status(self, ref: ModelRef) -> bytes:
        response = messages.status_response(self._handlers.statuses(ref.name, ref.version))
        return (_proto_json(response, proto_names=False)).encode()

    def _metadata(self, ref: ModelRef) -> bytes:
        known = self._handlers.signatures(ref)
        spec = _proto_json(messages.model_spec(known.model, known.version, ""))
        signatures = _proto_json(messages.signature_def_map(known))
        return f'{{\n"model_spec":{spec},\n"metadata": {{"signature_def": {signatures}}}\n}}\n'.encode()


def _proto_json(message: Any, *, proto_names: bool = True) -> str:
    return (
        json_format.MessageToJson(
            message, indent=1, preserving_proto_field_name=proto_names, always_print_fields_with_no_presence=True
        )
        + "\n"
    )
