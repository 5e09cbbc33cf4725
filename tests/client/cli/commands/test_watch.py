"""featserve watch: its table, its metrics page, and how it ends."""

from __future__ import annotations

import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator

import grpc
import pytest
from featserve_client.cli.main import main
from prometheus_client.parser import text_string_to_metric_families

from ....waiting import eventually
from ...fake_server import FakeServer
from ...watch.golden_server import carry_golden, swap


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = carry_golden(FakeServer()).start()
    yield fake
    fake.stop()


def watch(server: FakeServer, *arguments: object) -> int:
    return main(["watch", "--server", server.target, "--model", "toy", *map(str, arguments)])


def test_once_prints_a_table(server: FakeServer, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    remember = ("--remember", tmp_path / "seen.json")
    assert watch(server, "--once", *remember) == 0
    out, err = capsys.readouterr()
    line = rf"ok      {server.target}  toy version 1  cosine [01]\.\d+ \(early\)  [\d.]+ ms  against golden answers\n"
    assert re.fullmatch(line, out) and err == ""
    swap(server)
    assert watch(server, "--once", *remember, "--model", "other") == 1
    out, err = capsys.readouterr()
    assert out.count("FAILED") == 2 and "another model of the same name and version" in out
    assert err == "featserve: 2 of 2 checks failed\n"


def test_nobody_there(free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--once", "--server", f"127.0.0.1:{free_port()}", "--timeout", "2"]) == 1
    assert "no server at" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--every", "0.5"), "--every must be at least 1 second, not 0.5"),
        (("--every", "nan"), "--every must be at least 1 second, not nan"),
        (("--port", "70000"), "--port must be 0 to 65535, not 70000"),
        (("--server", "nowhere"), "'nowhere' is not HOST:PORT"),
        (("--server", ""), "the server's address is empty"),
        (("--photo", __file__), "--photo must be an image file"),
        (("--export", "/nowhere/toy/1"), "is no exported version"),
        (("--remember", "/nowhere/seen.json"), "/nowhere is no directory"),
        (("--timeout", "0"), "timeout_s must be above 0"),
        (("--host", "256.0.0.1"), "the metrics cannot be served on 256.0.0.1 port 9464"),
        (("--token-file", "/nowhere"), "--token-file"),
    ],
)
def test_options_that_cannot_work(
    server: FakeServer, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], text: str
) -> None:
    assert watch(server, *arguments) == 2
    out, err = capsys.readouterr()
    assert text in err and out == "" and not server.predicts


class Running:
    """The command in a process of its own, and its metrics page."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "featserve_client.cli", "watch", "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().removeprefix("metrics: ").strip()

    def samples(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        with urllib.request.urlopen(self.url, timeout=60) as answer:  # noqa: S310
            families = list(text_string_to_metric_families(answer.read().decode()))
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in families:
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found

    def end(self, number: int) -> tuple[int, str, float]:
        """Sends a signal; returns the exit status, what was written to stderr, and the seconds until the end."""
        started = time.monotonic()
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err, time.monotonic() - started


@pytest.fixture
def running() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*arguments: str) -> Running:
        started.append(Running(*arguments))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


@pytest.mark.long
def test_the_metrics_page(server: FakeServer, running: Callable[..., Running]) -> None:
    page = running("--server", server.target, "--model", "toy", "--every", "1")
    who = {"server": server.target, "model": "toy", "version": "1"}
    eventually(lambda: "featserve_watch_last_result" in page.samples())
    samples = page.samples()
    assert samples["featserve_watch_last_result"] == [(who, 1.0)]
    assert samples["featserve_watch_last_success_timestamp_seconds"][0][1] == pytest.approx(time.time(), abs=600)
    assert {labels["layer"] for labels, _ in samples["featserve_watch_lowest_cosine"]} == {"early", "late"}
    assert samples["featserve_watch_latency_seconds"][0][1] > 0
    ((labels, one),) = samples["featserve_watch_model_info"]
    assert one == 1 and labels.items() >= (who | {"weights": "0" * 12, "against": "golden answers"}).items()
    swap(server)
    # The look after next at the latest.
    eventually(lambda: page.samples()["featserve_watch_last_result"] == [(who, 0.0)], timeout_s=240)
    asked, interval = (
        page.samples()[f"featserve_watch_{name}"][0][1] for name in ("asked_seconds_total", "interval_seconds")
    )
    assert asked > 0 and interval >= 1
    status, err, _ = page.end(signal.SIGTERM)
    assert status == 0 and "FAILED" in err.splitlines()[-1] and "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_and_quietly(server: FakeServer, running: Callable[..., Running], number: int) -> None:
    server.before = lambda request, count: time.sleep(8)  # type: ignore[func-returns-value]
    page = running("--server", server.target, "--model", "toy", "--timeout", "60")
    eventually(lambda: len(server.predicts) > 0)
    status, err, seconds = page.end(number)
    assert (status, err) == (0, "") and seconds < 6


def test_once_is_interrupted(server: FakeServer) -> None:
    server.before = lambda request, count: time.sleep(8)  # type: ignore[func-returns-value]
    command = [sys.executable, "-m", "featserve_client.cli", "watch", "--once", "--server", server.target]
    process = subprocess.Popen([*command, "--model", "toy"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: len(server.predicts) > 0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "featserve: interrupted\n")


def test_addresses_of_a_name_have_the_certificate_of_the_name(
    pems: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key, certificate = ((pems / name).read_bytes() for name in ("server.key", "server.pem"))
    server = carry_golden(FakeServer(credentials=grpc.ssl_server_credentials([(key, certificate)]))).start()
    # As if `name` had one address; the certificate is for `localhost`.
    monkeypatch.setattr("featserve_client.transport.address.is_loopback", lambda target: False)
    arguments = ["watch", "--once", "--server", server.target, "--model", "toy", "--ca", str(pems / "ca.pem")]
    try:
        assert main(arguments) == 0
        assert f"ok      127.0.0.1:{server.port}  toy version 1" in capsys.readouterr().out
        assert main([*arguments, "--server-name", "elsewhere"]) == 1
        assert "is for another name" in capsys.readouterr().out
    finally:
        server.stop()
