"""A server of the tests whose model carries golden answers, as exported ones do."""

from __future__ import annotations

from typing import Any

import numpy as np
from featserve_client.wire import serving_pb2 as wire

from ..fake_server import LAYERS, MANIFEST, FakeServer, features, jpeg

PICTURES = [jpeg(100), jpeg(101)]
PLACES = {"early": np.array([0, 3, 7, 11]), "late": np.array([0, 1, 3])}
WEIGHTS = {"source": "random", "name": None, "sha256": "f" * 64}


def carry_golden(server: FakeServer) -> FakeServer:
    """Gives a server's model the signature `golden`."""
    definition = server.signatures.signature_def["golden"]
    answer = wire.PredictResponse()
    pictures = answer.outputs["image_bytes"]
    pictures.dtype = wire.DT_STRING
    pictures.tensor_shape.dim.add(size=len(PICTURES))
    pictures.string_val.extend(PICTURES)
    for layer in LAYERS:
        values = np.stack([features(picture)[layer].ravel()[PLACES[layer]] for picture in PICTURES])
        expected, positions = answer.outputs[f"expected/{layer}"], answer.outputs[f"positions/{layer}"]
        expected.dtype, positions.dtype = wire.DT_FLOAT, wire.DT_INT32
        for tensor, array in ((expected, values), (positions, PLACES[layer])):
            tensor.tensor_shape.dim.extend(wire.TensorShapeProto.Dim(size=size) for size in array.shape)
        expected.float_val.extend(values.ravel().tolist())
        positions.int_val.extend(PLACES[layer].tolist())
    for name in answer.outputs:
        definition.outputs[name].dtype = answer.outputs[name].dtype

    def before(request: wire.PredictRequest, count: int) -> bytes | None:
        if request.model_spec.signature_name != "golden":
            return None
        answer.model_spec.version.value = server.version
        return answer.SerializeToString()

    server.before = before
    return server


def other_features(data: Any) -> dict[str, np.ndarray]:
    """What another model of the same layers answers."""
    return {layer: 255 - values[..., ::-1] for layer, values in features(data).items()}


def swap(server: FakeServer) -> None:
    """Puts another model in the place of a server's own: another export of the same name, version and layers."""
    server.features = other_features
    server.manifest = MANIFEST | {"weights": WEIGHTS}
