"""Every REST call that was recorded from TensorFlow Serving, replayed."""

import http.client
import json
from pathlib import Path

import pytest

ROWS = [json.loads(line) for line in Path(__file__).with_name("transcripts.jsonl").read_text().splitlines()]
REST_ROWS = [row for row in ROWS if "path" in row]
#: Those of TensorFlow Serving's metrics that speak of requests; the rest are its runtime's own.
REQUEST_METRICS = (
    ":tensorflow:serving:request_count",
    ":tensorflow:serving:request_latency",
    ":tensorflow:serving:runtime_latency",
)


def ask(address, row):
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request(row["method"], row["path"], body=(row["body"] or "").encode() or None)
        response = connection.getresponse()
        return response.status, response.getheader("content-type"), response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("row", REST_ROWS, ids=lambda row: row["case"].replace(" ", "-"))
def test_answer_is_the_recorded_one(row, servers):
    status, content_type, text = ask(servers[1], row)
    assert (status, content_type) == (row["status"], row["content_type"])
    if row["content_type"] == "text/plain":
        for name in REQUEST_METRICS:
            assert {line for line in row["text"].splitlines() if line.startswith(f"# TYPE {name} ")} <= set(
                text.splitlines()
            )
    elif row["content_type"] == "application/json" and row["status"] == 200 and "metadata" in row["path"]:
        assert without_node_names(json.loads(text)) == without_node_names(json.loads(row["text"]))
    elif row["content_type"] == "application/json":
        assert json.loads(text) == json.loads(row["text"])  # the order of the outputs and line breaks mean nothing
    else:
        assert text == row["text"]


def without_node_names(fields):
    """Tensor names depend on the TensorFlow that saved the model."""
    if isinstance(fields, dict):
        return {key: without_node_names(value) for key, value in fields.items() if not _is_node(key, value)}
    if isinstance(fields, list):
        return [without_node_names(entry) for entry in fields]
    return fields


def _is_node(key, value):
    return key == "name" and (":" in str(value) or value == "NoOp")
