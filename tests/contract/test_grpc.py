"""Every gRPC call that was recorded from TensorFlow Serving, replayed."""

import json
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2

ROWS = [json.loads(line) for line in Path(__file__).with_name("transcripts.jsonl").read_text().splitlines()]
GRPC_ROWS = [row for row in ROWS if "rpc" in row]
#: The real server blocks on a missing directory until the caller gives up; refusing at once is meant to differ.
DIFFERENT = {"reload missing directory"}
#: Refused by code alone: the real server prints the signature, which no client reads.
EXAMPLE_METHODS = {"Classify", "Regress", "MultiInference"}


def comparable(rpc, message):
    """Returns the message as a dict without what has no meaning: the order of fields and of map entries."""
    fields = json_format.MessageToDict(message, preserving_proto_field_name=True)
    if rpc == "GetModelMetadata":
        packed = get_model_metadata_pb2.SignatureDefMap()
        message.metadata["signature_def"].Unpack(packed)
        fields["metadata"] = {"signature_def": json_format.MessageToDict(packed, preserving_proto_field_name=True)}
    return fields


def without_node_names(fields):
    """Tensor names depend on the TensorFlow that saved the model."""
    if isinstance(fields, dict):
        return {k: without_node_names(v) for k, v in fields.items() if not (k == "name" and ":" in str(v))}
    if isinstance(fields, list):
        return [without_node_names(entry) for entry in fields]
    return fields


def comparable_text(text):
    """Returns what of an error text is the server's: TensorFlow's kernels add the names of nodes."""
    return text.split("[[{{node")[0].rstrip()


@pytest.mark.parametrize("row", GRPC_ROWS, ids=lambda row: row["case"].replace(" ", "-"))
def test_answer_is_the_recorded_one(row, servers, call):
    address, _, base_path = servers
    if row["case"] in DIFFERENT:
        with pytest.raises(grpc.RpcError) as refusal:
            call(address, row, base_path, timeout_s=5.0)
        assert refusal.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.FAILED_PRECONDITION)
        return
    if "error" in row:
        with pytest.raises(grpc.RpcError) as refusal:
            call(address, row, base_path)
        assert refusal.value.code().name == row["error"]["code"]
        if row["rpc"] not in EXAMPLE_METHODS:
            assert comparable_text(refusal.value.details()) == comparable_text(row["error"]["details"])
        return
    response = comparable(row["rpc"], call(address, row, base_path))
    assert without_node_names(response) == without_node_names(row["response"])


def test_the_recording_covers_every_method(rpcs):
    assert {row["rpc"] for row in GRPC_ROWS} == set(rpcs)
