"""The client across three servers on hosts of their own (`make test-hosts`): one slow, one gone, one draining."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..waiting import eventually
from .hosts import CLIENT, NAME, Hosts, why_not
from .small_model import save

pytestmark = pytest.mark.slow
#: Host and version of the model there, which is in each answer.
SERVERS = {"one": 1, "two": 2, "three": 3}
PORT = 8500
#: So short that gRPC and the kernel by themselves would notice a server that vanished too late.
TIMEOUT_S = 15


class Callers:
    """Callers on the client's host, and what each call came to."""

    def __init__(self, hosts: Hosts, target: str) -> None:
        self.lines: list[dict[str, object]] = []
        program = Path(__file__).with_name("callers.py")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = hosts.start(CLIENT, sys.executable, program, target, TIMEOUT_S, **pipes)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(map(json.loads, self._process.stdout))

    def errors(self) -> list[object]:
        return [line["error"] for line in self.lines if "error" in line]

    def by_server(self, since: int = 0) -> Counter[object]:
        """How many quick calls each server has answered."""
        return Counter(line["server"] for line in self.lines[since:] if line.get("server"))

    def ask_more(self, calls: int) -> Counter[object]:
        """Waits for so many more quick calls; returns how many each server answered."""
        since = len(self.lines)
        eventually(lambda: self.by_server(since).total() >= calls or bool(self.errors()), timeout_s=120)
        return self.by_server(since)

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(120)
        self._reader.join()
        self._process.stdout.close()


class Service:
    """Three servers, and the callers of all."""

    def __init__(self, hosts: Hosts, models: Path, logs: Path) -> None:
        self.hosts = hosts
        self.servers = {}
        for name in SERVERS:
            serve = (sys.executable, "-m", "featserve_serving", "--runtime=embedded", "--host=0.0.0.0")
            root = (f"--port={PORT}", "--rest_api_port=-1", f"--model_root={models / name}", "--stop_grace_seconds=60")
            with (logs / f"{name}.log").open("w") as log:
                self.servers[name] = hosts.start(name, *serve, *root, stdout=subprocess.PIPE, stderr=log)
        for server in self.servers.values():
            assert server.stdout is not None
            while not (line := server.stdout.readline()).startswith("ready"):
                assert line, "expected a server that starts"
        self.callers = Callers(hosts, f"dns:///{NAME}:{PORT}")

    def stop(self) -> None:
        self.callers.stop()
        for server in self.servers.values():
            server.kill()
            server.communicate()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model root for each host."""
    root = tmp_path_factory.mktemp("models")
    for name, version in SERVERS.items():
        save(root / name / "small" / str(version))
    return root


@pytest.fixture
def service(models: Path, tmp_path: Path) -> Iterator[Service]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    hosts = Hosts(list(SERVERS), f"featserve{os.getpid()}")
    try:
        service = Service(hosts, models, tmp_path)
        try:
            service.callers.ask_more(300)
            yield service
        finally:
            service.stop()
    finally:
        hosts.remove()


def spread_evenly(calls: Counter[object], *names: str) -> bool:
    """Whether these servers, and no other, have answered as many calls as each other, within 10 %."""
    share = calls.total() / len(names)
    even = all(abs(calls[SERVERS[name]] - share) <= 0.1 * share for name in names)
    return even and set(calls) == {SERVERS[name] for name in names}


def test_calls_are_spread_over_all_servers_of_a_name(service: Service) -> None:
    calls = service.callers.ask_more(600)
    assert spread_evenly(calls, *SERVERS), calls
    assert service.callers.errors() == []


def test_no_call_is_lost_by_a_server_that_is_slow(service: Service) -> None:
    stalls = None
    if not service.hosts.slow_down("two", 50):  # the kernel lacks netem: the server stands still now and then
        stalls = Stalls(service.servers["two"])
    try:
        calls = service.callers.ask_more(600)
    finally:
        if stalls:
            stalls.end()
    assert spread_evenly(calls, *SERVERS), calls
    assert service.callers.errors() == []


def test_no_call_is_lost_by_a_network_that_loses_packets(service: Service) -> None:
    reason = service.hosts.lose("two", 0.02)
    if reason:
        pytest.skip(reason)
    calls = service.callers.ask_more(600)
    assert spread_evenly(calls, *SERVERS), calls
    assert service.callers.errors() == []


class Stalls:
    """Stops a process for a tenth of a second, again and again."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self._ended = process, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(0.05):
            self._process.send_signal(signal.SIGSTOP)
            time.sleep(0.1)
            self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


def test_no_call_is_lost_by_a_server_that_vanishes_and_it_is_asked_again_when_it_is_back(service: Service) -> None:
    service.hosts.vanish("three")
    wait_until_it_is(service, lambda calls: spread_evenly(calls, "one", "two"))
    service.hosts.come_back("three")
    wait_until_it_is(service, lambda calls: spread_evenly(calls, *SERVERS))
    assert service.callers.errors() == []


def wait_until_it_is(service: Service, spread: Callable[[Counter[object]], bool]) -> None:
    """Fails if calls are not spread in that way within four times a call's time, or if one is lost."""
    end = time.monotonic() + 4 * TIMEOUT_S
    while not spread(calls := service.callers.ask_more(300)):
        assert service.callers.errors() == []
        assert time.monotonic() < end, calls


def test_no_call_is_lost_by_a_server_that_drains(service: Service) -> None:
    service.servers["one"].send_signal(signal.SIGTERM)
    assert service.servers["one"].wait(120) == 0
    calls = service.callers.ask_more(600)
    assert spread_evenly(calls, "two", "three"), calls
    assert service.callers.errors() == []
