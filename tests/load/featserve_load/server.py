"""Servers: one started for a measurement, and what a local one uses."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from featserve_client import FeatserveError, FeatureClient

from .errors import LoadError

ROOT = Path(__file__).resolve().parents[3]
LOOPBACK = "127.0.0.1"
METRICS = "/monitoring/prometheus/metrics"


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
        environment: what it has beside this process's.
    """

    def __init__(
        self,
        base_path: Path,
        model: str,
        *,
        runtime: str = "embedded",
        flags: Sequence[str] = (),
        cores: Sequence[int] | None = None,
        environment: Mapping[str, str] | None = None,
        start_s: float = 180.0,
    ) -> None:
        self.port, self.rest_port = free_ports(2)
        self.target = f"{LOOPBACK}:{self.port}"
        self.rest = f"{LOOPBACK}:{self.rest_port}"
        self.model = model
        self._start_s = start_s
        self._cores = cores
        self._environment = {**os.environ, **(environment or {})}
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
            self.process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log, env=self._environment)
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
        """Ends it, by force if it takes more than 20 seconds."""
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
    """Returns ports that nothing listens on now."""
    sockets = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def pid_of(target: str) -> int | None:
    """Returns the local process that listens at `HOST:PORT`; None if it is elsewhere or may not be seen."""
    host, _, port = target.rpartition(":")
    if host not in ("localhost", LOOPBACK, "[::1]"):
        return None
    pid = next((pid for pid, listening in _listeners() if listening == int(port)), None)
    # A container's port is held by a process that only passes bytes on.
    return None if pid is None or "proxy" in psutil.Process(pid).name() else pid


def rest_of(target: str, pid: int | None) -> str | None:
    """Returns where a server's metrics are: another port of its process, or the next port; None if they are nowhere."""
    host, _, port = target.rpartition(":")
    own = {listening for owner, listening in _listeners() if owner == pid} if pid else set()
    for candidate in sorted(own - {int(port)}) or [int(port) + 1]:
        if _page(f"{host}:{candidate}") is not None:
            return f"{host}:{candidate}"
    return None


def _listeners() -> list[tuple[int, int]]:
    """Returns processes and ports."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return []
    return [(c.pid, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.pid]


def _page(rest: str) -> str | None:
    """Returns a server's metrics; None if it gives none."""
    try:
        with urllib.request.urlopen(f"http://{rest}{METRICS}", timeout=2) as answer:
            page: bytes = answer.read()
            return page.decode()
    except (OSError, ValueError, http.client.HTTPException):
        return None


class Usage:
    """What processes and their children use, from one look to the next."""

    def __init__(self, *pids: int) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]
        self._last: tuple[float, float] | None = None

    def look(self) -> dict[str, float]:
        """Returns cores used since the last look, and MiB, threads and file descriptors now; empty once they ended."""
        cpu, rss, threads, fds = 0.0, 0, 0, 0
        for process in self._family():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    cpu += times.user + times.system
                    rss += process.memory_info().rss
                    threads += process.num_threads()
                    fds += process.num_fds()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        if not threads:
            return {}
        now = time.monotonic()
        last, self._last = self._last, (now, cpu)
        seen = {"rss_mib": rss / 2**20, "threads": float(threads), "fds": float(fds)}
        return seen if last is None else {**seen, "cores": (cpu - last[1]) / max(now - last[0], 1e-9)}

    def _family(self) -> list[psutil.Process]:
        family = list(self._processes)
        for process in self._processes:
            with suppress(psutil.NoSuchProcess):
                family += process.children(recursive=True)
        return family


class Batches:
    """Sizes of the batches that servers executed, from one look to the next, as their metrics tell."""

    def __init__(self, addresses: Sequence[str], model: str) -> None:
        self._addresses = list(dict.fromkeys(addresses))
        self._model = model
        self._last: dict[str, float] | None = None

    def look(self) -> dict[str, float]:
        """Returns how many batches there were by largest size, `"8"`; empty where a server does not tell."""
        pages = [_page(address) for address in self._addresses]
        now: dict[str, float] | None = None
        if None not in pages:
            now = {}
            for page in pages:
                for size, count in executed(page or "", self._model).items():
                    now[size] = now.get(size, 0.0) + count
        last, self._last = self._last, now
        if now is None or last is None:
            return {}
        return {size: count - last.get(size, 0.0) for size, count in now.items() if count > last.get(size, 0.0)}


def executed(page: str, model: str) -> dict[str, float]:
    """Returns the batches of a metrics page by size: the embedded server's histogram or TensorFlow's counter.

    Reference: `RecordProcessedBatchSizeV2` in tensorflow/core/kernels/batching_util/batch_resource_base.cc.
    """
    found: dict[str, float] = {}
    below: dict[str, float] = {}
    for line in page.splitlines():
        if line.startswith("featserve_executed_batch_size_bucket") and f'model="{model}"' in line:
            version, size = _label(line, "version"), _label(line, "le")
            name = size if size == "+Inf" else f"{float(size):g}"
            count = _value(line) - below.get(version, 0.0)
            below[version] = _value(line)
        elif line.startswith(":tensorflow:serving:batching:processed_batch_size_v2{") and f'"{model}"' in line:
            name, count = _label(line, "batch_size"), _value(line)
        else:
            continue
        found[name] = found.get(name, 0.0) + count
    return found


def _label(line: str, name: str) -> str:
    return line.partition(f'{name}="')[2].partition('"')[0]


def _value(line: str) -> float:
    return float(line.rpartition(" ")[2])


class Watch:
    """What is known of servers from outside while they are under load.

    Args:
        targets: `HOST:PORT`.
        model: whose batches are counted.
        rest: REST addresses of the targets; those not given are looked for.
    """

    def __init__(self, targets: Sequence[str], model: str, rest: Sequence[str] = ()) -> None:
        pids = [pid_of(target) for target in targets]
        self._usage = Usage(*{pid for pid in pids if pid}) if all(pids) else None
        addresses = list(rest)
        if not rest:
            found = [rest_of(target, pid) for target, pid in zip(targets, pids, strict=True)]
            addresses = [address for address in found if address]
        self._batches = Batches(addresses, model) if len(addresses) == len(targets) else None

    def look(self) -> dict[str, Any]:
        """Returns use since the last look."""
        seen: dict[str, Any] = {}
        if self._usage:
            seen |= {name: round(value, 3) for name, value in self._usage.look().items()}
        if self._batches and (sizes := self._batches.look()):
            seen["batches"] = sizes
        return seen
