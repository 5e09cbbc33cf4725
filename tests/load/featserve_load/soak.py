"""Mixed traffic for a long time, with bad images, version swaps and a client that dies: nothing may fail or grow."""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from . import deployment, worker
from .deployment import say
from .errors import LoadError
from .payload import PREDICT, SIGNATURES, describe, make
from .server import ServerProcess, Usage

#: Of the lowest between swaps, past the first half: what a leak of one small version per swap would exceed.
MAX_RSS_MIB_PER_MINUTE = 10.0
MAX_FDS_GROWTH = 8
MAX_THREADS_GROWTH = 8
BAD_SHARE = 0.01


@dataclass(kw_only=True)
class Outcome:
    """What happened; `problems` is empty if all was well."""

    seconds: float = 0.0
    good: dict[str, int] = field(default_factory=dict)
    bad: dict[str, int] = field(default_factory=dict)
    swaps: int = 0
    kills: int = 0
    rss_mib: list[float] = field(default_factory=list)
    rss_mib_per_minute: float | None = None
    threads: list[float] = field(default_factory=list)
    fds: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def main(argv: Sequence[str]) -> int:
    """Soak a server; return 1 if anything failed or grew."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, metavar="M", help="(default: %(default)s)")
    parser.add_argument("--model", default=deployment.DEFAULT_MODEL, help="(default: %(default)s)")
    parser.add_argument("--model-root", type=Path, default=deployment.DEFAULT_ROOT, metavar="DIR")
    parser.add_argument("--swap-seconds", type=float, default=20.0, metavar="S", help="(default: %(default)s)")
    parser.add_argument("--clients", type=int, default=3, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/load"), metavar="DIR", help="(default: %(default)s)")
    options = parser.parse_args(argv)
    if not options.minutes > 0 or not options.swap_seconds > 0 or options.clients < 2:
        raise LoadError("--minutes and --swap-seconds are above 0, --clients at least 2")
    base_path = deployment.ensure_model(options.model_root, options.model)
    outcome = soak(base_path, options.model, options.minutes * 60, swap_s=options.swap_seconds, clients=options.clients)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "soak.json").write_text(json.dumps(asdict(outcome), indent=1))
    slope = "–" if outcome.rss_mib_per_minute is None else f"{outcome.rss_mib_per_minute:+.1f} MiB/min"
    print(
        f"{outcome.seconds:.0f} s, {outcome.swaps} version swaps, {outcome.kills} clients killed\n"
        f"good images {outcome.good}\nbad images  {outcome.bad}\n"
        f"memory {outcome.rss_mib[0]:.0f} to {outcome.rss_mib[-1]:.0f} MiB ({slope} between swaps, second half)\n"
        f"threads {outcome.threads[0]:.0f} to {outcome.threads[-1]:.0f}, "
        f"file descriptors {outcome.fds[0]:.0f} to {outcome.fds[-1]:.0f}"
    )
    for problem in outcome.problems:
        print(f"FAILED: {problem}")
    return 1 if outcome.problems else 0


def soak(base_path: Path, model: str, seconds: float, *, swap_s: float, clients: int) -> Outcome:
    """Serves copies of the newest version of `base_path` under load and watches."""
    newest = max((path for path in base_path.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    outcome = Outcome()
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    with tempfile.TemporaryDirectory(prefix="featserve-soak-") as folder:
        served = Path(folder) / model
        served.mkdir()
        _publish(newest, served, 1)
        with ServerProcess(served, model) as server:
            requests = _mixed(server.target, model)
            team = [_Client(server.target, requests, index, counts) for index in range(clients)]
            usage = Usage(server.pid)
            start = time.monotonic()
            try:
                _watch(outcome, server, newest, served, team, usage, start, seconds, swap_s)
            except KeyboardInterrupt:
                say("interrupted: judging what was seen")
            finally:
                for client in team:
                    client.stop()
            outcome.seconds = time.monotonic() - start
    outcome.good, outcome.bad = dict(counts[0]), dict(counts[1])
    _judge(outcome)
    return outcome


def _watch(
    outcome: Outcome,
    server: ServerProcess,
    newest: Path,
    served: Path,
    team: list[_Client],
    usage: Usage,
    start: float,
    seconds: float,
    swap_s: float,
) -> None:
    version, next_swap, next_kill = 1, start + swap_s, start + 1.5 * swap_s
    times = []
    while (now := time.monotonic()) < start + seconds:
        if server.process is not None and server.process.poll() is not None:
            raise LoadError(f"the server died:\n{server.log()}")
        if now >= next_swap:
            version, next_swap = version + 1, next_swap + swap_s
            _publish(newest, served, version)
            if version > 2:
                shutil.rmtree(served / str(version - 2))
            outcome.swaps += 1
        if now >= next_kill:
            next_kill += 2 * swap_s
            team[0].be_reborn()
            outcome.kills += 1
        if not (seen := usage.look()):
            continue  # it ended just now: said above
        times.append(now)
        outcome.rss_mib.append(seen["rss_mib"])
        outcome.threads.append(seen["threads"])
        outcome.fds.append(seen["fds"])
        time.sleep(1)
    outcome.rss_mib_per_minute = growth(times, outcome.rss_mib, swap_s)


def growth(times: Sequence[float], rss_mib: Sequence[float], swap_s: float) -> float | None:
    """Returns MiB a minute in the second half, None for fewer than four swaps there.

    While a version is swapped two are loaded, and memory is a sawtooth: its lowest between swaps are compared, each
    with each, and the median of their slopes taken.
    """
    lowest: dict[int, tuple[float, float]] = {}
    for when, rss in zip(times, rss_mib, strict=True):
        turn = int((when - times[0]) / swap_s)
        if turn not in lowest or rss < lowest[turn][1]:
            lowest[turn] = (when / 60, rss)
    steady = list(lowest.values())[len(lowest) // 2 :]
    if len(steady) < 4:
        return None
    slopes = [(b - a) / (later - sooner) for (sooner, a), (later, b) in itertools.combinations(steady, 2)]
    return statistics.median(slopes)


def _judge(outcome: Outcome) -> None:
    failed = {code: count for code, count in outcome.good.items() if code != "OK"}
    if failed:
        outcome.problems.append(f"good images failed: {failed}")
    if not outcome.good.get("OK"):
        outcome.problems.append("no good image was answered")
    wrong = {code: count for code, count in outcome.bad.items() if code != "INVALID_ARGUMENT"}
    if wrong:
        outcome.problems.append(f"bad images were not all refused with INVALID_ARGUMENT: {wrong}")
    slope = outcome.rss_mib_per_minute
    if slope is not None and slope > MAX_RSS_MIB_PER_MINUTE:
        outcome.problems.append(f"memory grew by {slope:.1f} MiB a minute")
    for name, seen, most in (
        ("threads", outcome.threads, MAX_THREADS_GROWTH),
        ("file descriptors", outcome.fds, MAX_FDS_GROWTH),
    ):
        third = len(seen) // 3
        if third and max(seen[-third:]) > max(seen[:-third]) + most:
            outcome.problems.append(f"{name} grew from {max(seen[:-third]):.0f} to {max(seen[-third:]):.0f}")


def _publish(source: Path, served: Path, version: int) -> None:
    staged = served / f".{version}.tmp"
    deployment.copy_version(source, staged)
    staged.rename(served / str(version))


def _mixed(target: str, model: str) -> list[tuple[bytes, bool]]:
    """Returns requests of every signature, 1 % of them bad, in a fixed random order."""
    metadata = describe(target, model)
    good: list[bytes] = []
    for kind, signature in SIGNATURES.items():
        if signature in metadata.signatures:
            good += make(metadata, model, input=kind).requests
    encoded = make(metadata, model, encoded=[b"no image at all", b"\xff\xd8\xff\xe0 cut short", b""]).requests
    random = np.random.default_rng(0)
    mixed = [(good[index], True) for index in random.integers(0, len(good), 1000)]
    for place in random.choice(len(mixed), round(BAD_SHARE * len(mixed)), replace=False).tolist():
        mixed[place] = (encoded[place % len(encoded)], False)
    return mixed


class _Client:
    """A process that calls one request after another, and the counts of its answers."""

    def __init__(
        self, target: str, requests: list[tuple[bytes, bool]], index: int, counts: tuple[Counter[str], Counter[str]]
    ) -> None:
        self._target, self._requests, self._index, self._counts = target, requests, index, counts
        self._begin()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, self._target, self._requests, self._index)
        self._process = context.Process(target=_call_forever, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._reader = threading.Thread(target=self._read, args=(self._pipe,), daemon=True)
        self._reader.start()

    def _read(self, pipe: Any) -> None:
        while True:
            try:
                good, code = pipe.recv()
            except (EOFError, OSError):
                return
            self._counts[0 if good else 1][code] += 1

    def be_reborn(self) -> None:
        """Die with calls in flight, and begin again."""
        self._process.kill()
        self._process.join()
        self._reader.join()
        self._pipe.close()
        self._begin()

    def stop(self) -> None:
        """Ends between two calls."""
        if self._process.pid is not None:
            os.kill(self._process.pid, signal.SIGTERM)
        self._process.join(20)
        self._reader.join(5)


def _call_forever(pipe: Any, target: str, requests: list[tuple[bytes, bool]], index: int) -> None:
    worker.be_quiet()
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    options = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(target, options) as channel:
        call = channel.unary_unary(PREDICT)
        turn = index * 333
        while not asked.is_set():
            request, good = requests[turn % len(requests)]
            turn += 1
            try:
                call(request, timeout=30)
                code = "OK"
            except grpc.RpcError as exc:
                code = exc.code().name
            pipe.send((good, code))
