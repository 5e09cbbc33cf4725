"""The same server measured with MLCommons LoadGen, beside the generator at the same load."""

from __future__ import annotations

import argparse
import json
import re
import statistics
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from . import deployment
from .deployment import say
from .errors import LoadError
from .generator import Generator, Stage
from .measurement import Measurement
from .payload import PREDICT

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
SETTINGS = Path(__file__).with_name("loadgen.conf")
#: Requests open at once under Offline, which issues everything in one query.
CALLS_AT_ONCE = 16
#: Of what a closed loop reaches: Server's rate where neither the settings nor --rate say one.
SERVER_SHARE = 0.25
#: Seconds that the generator measures before LoadGen does, and again after it.
COMPARE_S = 6.0
TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What LoadGen found."""

    scenario: str
    valid: bool
    failed: dict[str, int]
    #: Why LoadGen calls the run INVALID, in its words.
    reasons: list[str]
    figures: dict[str, float]
    log: Path

    def __str__(self) -> str:
        return (
            f"{'VALID' if self.valid else 'INVALID'}, {self.per_s:.1f} images/s, mean {self.mean_ms:.1f} ms, failed "
            f"{self.failed or 0}; {self.log}"
        )

    @property
    def mean_ms(self) -> float:
        """Mean latency of a query."""
        return self.figures["Mean latency (ns)"] / 1e6

    @property
    def p50_ms(self) -> float:
        """Median latency of a query."""
        return self.figures["50.00 percentile latency (ns)"] / 1e6

    @property
    def per_s(self) -> float:
        """Samples per second."""
        for name in ("Samples per second", "Completed samples per second", "QPS w/ loadgen overhead"):
            if name in self.figures:
                return self.figures[name]
        return 1e3 / self.mean_ms


def main(argv: Sequence[str]) -> int:
    """Runs scenarios; returns 1 if one is INVALID, or disagrees with the generator by more than 5 %."""
    parser = argparse.ArgumentParser(prog="referee", description=__doc__)
    deployment.add_arguments(parser)
    deployment.add_budget(parser)
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), metavar="A,B", help="(default: %(default)s)")
    parser.add_argument("--settings", type=Path, default=SETTINGS, metavar="FILE", help="(default: %(default)s)")
    parser.add_argument("--rate", type=float, metavar="R", help="of Server (default: 0.25 of 16 callers')")
    parser.add_argument("--duration", type=float, metavar="S", help="of a run, instead of the settings' min_duration")
    parser.add_argument("--out", type=Path, default=Path("build/load/loadgen"), metavar="DIR")
    options = parser.parse_args(argv)
    scenarios = options.scenarios.split(",")
    if unknown := set(scenarios) - set(SCENARIOS):
        raise LoadError(f"expected scenarios of {', '.join(SCENARIOS)}, received {', '.join(sorted(unknown))}")
    if options.images_per_request != 1:
        raise LoadError("LoadGen counts samples: --images-per-request must be 1")
    passed = True
    with deployment.opened(options) as server:
        payload = deployment.payload_of(options, server.metadata)
        deployment.check_answers(server, payload)
        with Generator(server.targets, payload, processes=1) as generator:
            single = deployment.single_latency_ms(generator)
            budget = deployment.budget_ms(options.slo_ms, single)
            closed = generator.run(Stage(callers=CALLS_AT_ONCE, duration_s=3))
            if not closed.images_per_s:
                raise LoadError(f"no request was answered: {closed.errors or 'none in time'}")
            rate = options.rate
            if rate is None and not _sets(options.settings, "Server.target_qps"):
                rate = SERVER_SHARE * closed.images_per_s
            given = options.slo_ms is None and _sets(options.settings, "Server.target_latency")
            for scenario in scenarios:
                at = f" at {rate:.1f} requests/s" if scenario == "Server" and rate else ""
                say(f"LoadGen, {scenario}{at}")
                ratios: list[float] = []
                while settled(ratios) is None:
                    before = [generator.run(stage) for stage in _same_load(scenario)]
                    found = run(
                        server.targets[0],
                        payload.requests,
                        scenario,
                        options.settings,
                        options.out,
                        rate=rate,
                        latency_ms=None if given else budget,
                        # More than it will reach, or the one query that LoadGen makes of it ends too soon.
                        expected_rate=2 * max(each.images_per_s for each in (closed, *before)),
                        duration_s=options.duration,
                    )
                    passed &= found.valid and not found.failed
                    print(f"measured with LoadGen, {scenario}: {found}", flush=True)
                    if not found.valid:
                        print("  " + "\n  ".join(found.reasons))
                    mine = before + [generator.run(stage) for stage in _same_load(scenario, found)]
                    if not mine:
                        break
                    ratio, what = agreement(scenario, mine, found)
                    ratios.append(ratio)
                    print(f"  the generator at the same load: {what} {ratio:.3f} × LoadGen's", flush=True)
                passed &= settled(ratios) is not False
    return 0 if passed else 1


def settled(ratios: Sequence[float]) -> bool | None:
    """Returns whether the two agree, at once or in two of three tries: machines have bad moments. None: again."""
    near = [abs(ratio - 1) <= TOLERANCE for ratio in ratios]
    if not near or (not near[0] and len(near) - sum(near) < 2 and sum(near) < 2):
        return None
    return near[0] or sum(near) >= 2


def agreement(scenario: str, mine: Sequence[Measurement], found: Verdict) -> tuple[float, str]:
    """Returns the generator's figure by LoadGen's, and which it is."""
    if scenario == "SingleStream":
        return statistics.mean(each.percentile_ms(50) for each in mine) / found.p50_ms, "p50"
    if scenario == "Offline":
        return statistics.mean(each.steady_images_per_s for each in mine) / found.per_s, "images/s"
    return statistics.mean(each.images_per_s for each in mine) / found.per_s, "images/s"


def run(
    target: str,
    requests: Sequence[bytes],
    scenario: str,
    settings: Path,
    out: Path,
    *,
    rate: float | None = None,
    latency_ms: float | None = None,
    expected_rate: float | None = None,
    duration_s: float | None = None,
    max_open: int = CALLS_AT_ONCE,
) -> Verdict:
    """Runs one scenario; logs and verdict are kept in `out/scenario`.

    Args:
        target: `HOST:PORT`.
        requests: serialised, one image each.
        scenario: one of `SCENARIOS`.
        settings: LoadGen's.
        out: directory of the logs.
        rate: requests/s of Server, None for the settings'.
        latency_ms: bound of Server's percentile, None for the settings'.
        expected_rate: requests/s that Offline will hardly exceed.
        duration_s: of the run, None for the settings'.
        max_open: requests at once.
    """
    import mlperf_loadgen as lg

    if not settings.exists():
        raise LoadError(f"no settings file {settings}")
    test = lg.TestSettings()
    test.FromConfig(str(settings), "featserve", scenario, 1)
    test.scenario = getattr(lg.TestScenario, scenario)
    test.mode = lg.TestMode.PerformanceOnly
    if rate is not None:
        test.server_target_qps = rate
    if latency_ms is not None:
        test.server_target_latency_ns = round(latency_ms * 1e6)
    if expected_rate is not None:
        test.offline_expected_qps = expected_rate
    if duration_s is not None:
        test.min_duration_ms = round(duration_s * 1e3)
    log = out / scenario
    log.mkdir(parents=True, exist_ok=True)
    logging = lg.LogSettings()
    logging.log_output.outdir = str(log)
    logging.log_output.copy_summary_to_stdout = False
    sut = _Sut(lg, target, requests, max_open)
    try:
        system = lg.ConstructSUT(sut.issue, sut.flush)
        library = lg.ConstructQSL(len(requests), len(requests), lambda _: None, lambda _: None)
        try:
            lg.StartTestWithLogSettings(system, library, test, logging)
        finally:
            lg.DestroyQSL(library)
            lg.DestroySUT(system)
    finally:
        sut.close()
    summary = (log / "mlperf_log_summary.txt").read_text()
    figures = {
        name.strip(): float(value) for name, value in re.findall(r"^([^:\n]+?)\s*:\s*([\d.]+)\s*$", summary, re.M)
    }
    reasons = [line.strip() for line in summary.splitlines() if line.strip().startswith("* ")]
    found = Verdict(
        scenario=scenario,
        valid="Result is : VALID" in summary,
        failed=dict(sut.failed),
        reasons=reasons,
        figures=figures,
        log=log,
    )
    (log / "verdict.json").write_text(
        json.dumps(
            {"scenario": scenario, "valid": found.valid, "failed": found.failed, "reasons": reasons, **figures},
            indent=1,
        )
    )
    return found


class _Sut:
    """The system under test: gRPC calls whose answers are told to LoadGen."""

    def __init__(self, lg: Any, target: str, requests: Sequence[bytes], max_open: int) -> None:
        self._lg = lg
        self._requests = requests
        self._channel = grpc.insecure_channel(
            target, [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
        )
        self._call = self._channel.unary_unary(PREDICT)
        self._room = threading.Semaphore(max_open)
        self._lock = threading.Lock()
        self.failed: Counter[str] = Counter()

    def issue(self, samples: Any) -> None:
        for sample in samples:
            self._room.acquire()
            future = self._call.future(self._requests[sample.index], timeout=60)
            future.add_done_callback(lambda done, number=sample.id: self._complete(done, number))

    def flush(self) -> None:
        """Nothing is held back."""

    def _complete(self, done: Any, number: int) -> None:
        self._room.release()
        if done.code() is not grpc.StatusCode.OK:
            with self._lock:
                self.failed[done.code().name] += 1
        # LoadGen knows no failures: the count is told apart.
        self._lg.QuerySamplesComplete([self._lg.QuerySampleResponse(number, 0, 0)])

    def close(self) -> None:
        self._channel.close()


def _same_load(scenario: str, found: Verdict | None = None) -> list[Stage]:
    """Returns what the generator measures before LoadGen's run, or after it: a machine that drifts drifts for both."""
    if scenario == "SingleStream":
        return [Stage(callers=1, duration_s=COMPARE_S)]
    if scenario == "Offline":
        return [Stage(callers=CALLS_AT_ONCE, duration_s=COMPARE_S, warmup_s=1.0)]
    if scenario == "Server" and found is not None:
        # What LoadGen's own schedule came to, not what it was asked for: chance differs.
        rate = found.figures["Scheduled samples per second"]
        return [Stage(rate=rate, duration_s=2 * COMPARE_S, arrivals="constant")]
    return []


def _sets(settings: Path, key: str) -> bool:
    """Returns whether a settings file has a key."""
    if not settings.exists():
        raise LoadError(f"no settings file {settings}")
    return any(key in line.partition("#")[0] for line in settings.read_text().splitlines())
