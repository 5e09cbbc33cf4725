"""featserve doctor: what it finds of each mistake."""

import http.server
import pathlib
import threading
from collections.abc import Callable
from datetime import datetime

import grpc
import pytest
from featserve_client.cli.commands import doctor
from featserve_client.cli.main import main

from ...command import featserve
from ...fake_server import FakeServer


def test_a_service_that_is_well(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert featserve(server, "doctor") == 0
    out = capsys.readouterr().out
    assert f"ok      address localhost:{server.port}: gRPC in plain text\n" in out
    assert "ok      model toy: version 1 AVAILABLE\n" in out
    assert "since when, and under which labels: unknown, for TensorFlow Serving does not tell\n" in out
    assert "layers of version 1: early, late" in out and "round trip" in out and "FAILED" not in out


def test_a_server_that_tells_labels_and_since_when(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.status.since = 86400.0
    server.status.labels.append("stable")
    assert featserve(server, "doctor") == 0
    out = capsys.readouterr().out
    when = datetime.fromtimestamp(86400).astimezone().isoformat(" ", "seconds")
    assert f"ok      model toy: version 1 (stable) AVAILABLE since {when}\n" in out
    assert "unknown" not in out


def test_another_model(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--server", server.target, "--model", "other"]) == 1
    assert "FAILED  ModelNotFound: model 'other'" in capsys.readouterr().out


def test_nothing_there(free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--server", f"localhost:{free_port()}"]) == 1
    assert "nothing answers (" in capsys.readouterr().out


def test_tls_and_plain_text_are_told_apart(
    server: FakeServer, pems: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, certificate = ((pems / name).read_bytes() for name in ("server.key", "server.pem"))
    secure = FakeServer(credentials=grpc.ssl_server_credentials([(key, certificate)])).start()
    try:
        assert featserve(secure, "doctor") == 1
        assert "the server wants TLS: name the authority" in capsys.readouterr().out
        assert featserve(secure, "doctor", "--ca", pems / "ca.pem") == 0
        assert "gRPC under TLS" in capsys.readouterr().out
    finally:
        secure.stop()
    assert featserve(server, "doctor", "--ca", pems / "ca.pem") == 1
    assert "the server speaks plain text" in capsys.readouterr().out


def test_the_port_of_the_rest_api(capsys: pytest.CaptureFixture[str]) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign,assignment]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert main(["doctor", "--server", f"127.0.0.1:{server.server_port}"]) == 1
    finally:
        server.shutdown()
        server.server_close()
    assert "a web server answers, perhaps the REST API" in capsys.readouterr().out


def test_what_a_cpu_means_for_the_precision(tmp_path: pathlib.Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("model name\t: A CPU\nflags\t\t: fpu avx2\n\nmodel name\t: A CPU\nflags\t\t: fpu avx2\n")
    assert doctor._cpu(info).endswith("A CPU, avx2: for a server here, bfloat16 would be slower than float32")
    info.write_text("model name\t: B CPU\nflags\t\t: avx2 avx512_vnni avx512_bf16\n")
    assert "B CPU, avx2, avx512_vnni, avx512_bf16: for a server here, --precision auto" in doctor._cpu(info)
