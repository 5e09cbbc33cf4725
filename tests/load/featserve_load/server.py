"""Servers: one started for a measurement, and what a local one uses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from featserve_client import FeatserveError, FeatureClient

from .errors import LoadError

ROOT = Path(__file__).resolve().parents[3]
LOOPBACK = "127.0.0.1"


@contextmanager
def on_cores(cores: Sequence[int] | None) -> Iterator[None]:
    """What this thread starts may use `cores` only. A function run in the child after fork() hangs beside gRPC."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class ServerProcess:
    """`featserve-serve` with one model, in a process of its own; a context manager.

    Args:
        base_path: the directory of the model's versions.
        model: its name.
        runtime: as `featserve-serve --runtime`.
        flags: further flags.
        cores: the cores it may use, None for all.
    """

    def __init__(
        self,
        base_path: Path,
        model: str,
        *,
        runtime: str = "embedded",
        flags: Sequence[str] = (),
        cores: Sequence[int] | None = None,
        start_s: float = 180.0,
    ) -> None:
        self.port, self.rest_port = free_ports(2)
        self.target = f"{LOOPBACK}:{self.port}"
        self.rest = f"{LOOPBACK}:{self.rest_port}"
        self.model = model
        self._start_s = start_s
        self._cores = cores
        monitoring = ROOT / "serving" / "configs" / "monitoring.config"
        self._command = [
            *(sys.executable, "-m", "featserve_serving", "--runtime", runtime),
            *("--model_base_path", str(base_path.resolve()), "--model_name", model),
            *("--port", str(self.port), "--rest_api_port", str(self.rest_port)),
            *("--monitoring_config_file", str(monitoring)),
            *flags,
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ServerProcess:
        self._log = tempfile.TemporaryFile()
        with on_cores(self._cores):
            self.process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process."""
        if self.process is None:
            raise LoadError("the server is not started")
        return self.process.pid

    def log(self) -> str:
        """The end of what it wrote."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-3000:]

    def stop(self) -> None:
        """End it, by force if it takes more than 20 seconds."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()

    def _wait(self) -> None:
        end = time.monotonic() + self._start_s
        with FeatureClient(self.target, model=self.model, timeout_s=2) as client:
            while True:
                if self.process is not None and self.process.poll() is not None:
                    raise LoadError(f"the server ended with status {self.process.returncode}:\n{self.log()}")
                if time.monotonic() > end:
                    raise LoadError(f"the server was not ready within {self._start_s:g} s:\n{self.log()}")
                try:
                    client.wait_until_ready(0.5)
                    return
                except FeatserveError:
                    time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on now."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def pid_of(target: str) -> int | None:
    """Return the local process that listens at `HOST:PORT`; None if it is elsewhere or may not be seen."""
    host, _, port = target.rpartition(":")
    if host not in ("localhost", LOOPBACK, "[::1]"):
        return None
    try:
        listeners = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    except psutil.AccessDenied:
        return None
    return next((c.pid for c in listeners if c.laddr and c.laddr.port == int(port) and c.pid), None)


class Usage:
    """What a process and its children use, from one look to the next."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._last: tuple[float, float] | None = None

    def look(self) -> dict[str, float]:
        """Return cores used since the last look, and MiB, threads and file descriptors now."""
        family = [self._process, *self._process.children(recursive=True)]
        cpu, rss, threads, fds = 0.0, 0, 0, 0
        for process in family:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    cpu += times.user + times.system
                    rss += process.memory_info().rss
                    threads += process.num_threads()
                    fds += process.num_fds()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        now = time.monotonic()
        last, self._last = self._last, (now, cpu)
        seen = {"rss_mib": rss / 2**20, "threads": float(threads), "fds": float(fds)}
        return seen if last is None else {**seen, "cores": (cpu - last[1]) / max(now - last[0], 1e-9)}


class Batches:
    """Sizes of the batches that the server executed, from one look to the next, as its metrics tell."""

    def __init__(self, rest: str, model: str, path: str = "/monitoring/prometheus/metrics") -> None:
        self._url = f"http://{rest}{path}"
        self._prefix = "featserve_executed_batch_size"
        self._label = f'model="{model}"'
        self._last: dict[str, float] = {}

    def look(self) -> dict[str, float]:
        """Return how many batches there were by size, `"<=8"`; empty where the server does not tell."""
        now = self._read()
        last, self._last = self._last, now
        return {name: count - last.get(name, 0.0) for name, count in now.items() if count - last.get(name, 0.0) > 0}

    def _read(self) -> dict[str, float]:
        try:
            with urllib.request.urlopen(self._url, timeout=2) as answer:
                page = answer.read().decode()
        except (OSError, urllib.error.URLError):
            return {}
        found: dict[str, float] = {}
        below: dict[str, float] = {}
        for line in page.splitlines():
            if not line.startswith(f"{self._prefix}_bucket") or self._label not in line:
                continue
            labels, _, value = line.rpartition(" ")
            version = labels.partition('version="')[2].partition('"')[0]
            size = labels.partition('le="')[2].partition('"')[0]
            name = size if size == "+Inf" else f"{float(size):g}"
            found[name] = found.get(name, 0.0) + float(value) - below.get(version, 0.0)
            below[version] = float(value)
        return found


class Watch:
    """What is known of a server from outside while it is under load."""

    def __init__(self, pid: int | None, rest: str | None, model: str) -> None:
        self._usage = Usage(pid) if pid else None
        self._batches = Batches(rest, model) if rest else None

    def look(self) -> dict[str, Any]:
        """Return use since the last look."""
        seen: dict[str, Any] = {}
        if self._usage:
            seen |= {name: round(value, 3) for name, value in self._usage.look().items()}
        if self._batches and (sizes := self._batches.look()):
            seen["batches"] = sizes
        return seen
