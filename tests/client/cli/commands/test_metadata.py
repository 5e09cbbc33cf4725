"""featserve status and metadata."""

import json

import pytest
from featserve_client import extras as extras

from ...command import featserve
from ...fake_server import MANIFEST, FakeServer


def test_status_and_metadata(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert featserve(server, "status") == 0
    assert capsys.readouterr().out == "toy version 1: AVAILABLE\n"
    assert featserve(server, "status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {"version": 1, "state": "AVAILABLE", "error": "", "since": None, "labels": None}
    ]
    assert featserve(server, "metadata", "--json") == 0
    assert json.loads(capsys.readouterr().out)["manifest"] == MANIFEST
    assert featserve(server, "metadata") == 0
    assert "out  late: float32 (N, 4)" in capsys.readouterr().out
