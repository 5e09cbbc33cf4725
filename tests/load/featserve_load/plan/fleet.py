"""Servers under a load: what the generator would have measured, simulated."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import simpy

from .. import schedule
from ..generator import Stage
from ..measurement import Measurement
from ..worker import SAMPLE
from .service_times import ServiceTimes
from .simulated_server import Cores, Settings, SimulatedServer

#: `generator`: as the load generator's processes; `round_robin`: clients that ask each server in turn, each from
#: another; `pinned`: clients that keep one connection, as behind a virtual IP.
Balancing = Literal["generator", "round_robin", "pinned"]
#: gRPC's RESOURCE_EXHAUSTED.
REFUSED = 8


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Servers alike; `run` is that of `Generator`, so that whatever measures can simulate.

    Attributes:
        times: of each server.
        settings: of each server.
        servers: how many.
        clients: how many balance, each for itself.
        balancing: how they do.
        images_per_request: of the payload.
        sampled: servers that are simulated, all by default. Without retries servers never meet: the others' requests
            are drawn and left out, and what the sample shows has the distribution of all.
        machines: that the servers are spread over; by default each server has its own.
    """

    times: ServiceTimes
    settings: Settings
    servers: int = 1
    clients: int = 2
    balancing: Balancing = "generator"
    images_per_request: int = 1
    sampled: int | None = None
    machines: int | None = None

    def run(self, stage: Stage) -> Measurement:
        """Simulates a stage; its seed gives the arrivals that the generator would have made of it."""
        env = simpy.Environment()
        count = min(self.servers, self.sampled or self.servers)
        machines = [Cores(env, self.times.cores) for _ in range(min(count, self.machines or count))]
        servers = [
            SimulatedServer(env, self.times, self.settings, machines[place % len(machines)], stage.seed + place)
            for place in range(count)
        ]
        end = stage.warmup_s + stage.duration_s
        samples: list[tuple[float, float, float, int]] = []
        outside_s = self.times.outside_ms / 1e3

        def ask(due: float, server: int, which: int, then: Any = None) -> None:
            def answered(good: bool) -> None:
                done = env.now + outside_s
                samples.append((due, due, done, 0 if good else REFUSED))
                if then:
                    then(done if good else done + 0.01)

            servers[server].ask(which, self.images_per_request, answered)

        if stage.rate is not None:
            due = schedule.due(stage.arrivals, stage.rate, end, stage.seed)
            env.process(_arrivals(env, ask, due, *self._assigned(len(due), stage.seed), count))
        else:
            self._callers(env, ask, stage.callers or 1, end)
        env.run()
        return self._measured(stage, samples, servers, machines)

    def _callers(self, env: simpy.Environment, ask: Any, callers: int, end: float) -> None:
        turns = iter(range(1 << 62))

        def again(when: float) -> None:
            if when >= end:
                return
            turn = next(turns)

            def now(_: simpy.Event) -> None:
                ask(when, turn % self.servers, turn % len(self.times.request_ms), again)

            env.timeout(max(0.0, when - env.now)).callbacks.append(now)

        for _ in range(callers):
            again(0.0)

    def _assigned(self, count: int, seed: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Returns the server and the request of each arrival."""
        length = len(self.times.request_ms)
        random = np.random.default_rng([seed, 1])
        if self.balancing == "generator":
            client = np.arange(count) % self.clients
            turn = np.arange(count) // self.clients + client * length // self.clients
            return turn % self.servers, turn % length
        which = random.integers(length, size=count)
        client = random.integers(self.clients, size=count)
        first = random.integers(self.servers, size=self.clients)
        if self.balancing == "pinned":
            return first[client], which
        order = np.argsort(client, kind="stable")
        sizes = np.bincount(client, minlength=self.clients)
        turn = np.empty(count, int)
        turn[order] = np.arange(count) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return (turn + first[client]) % self.servers, which

    def _measured(
        self, stage: Stage, samples: list[Any], servers: list[SimulatedServer], machines: list[Cores]
    ) -> Measurement:
        found = np.array(samples, SAMPLE)
        for name in ("due", "sent", "done"):
            found[name] -= stage.warmup_s
        good = (found["code"] == 0) & (found["done"] >= 0) & (found["done"] < stage.duration_s)
        found_in = found[(found["due"] >= 0) & (found["due"] < stage.duration_s)]
        batches: dict[int, int] = {}
        for server in servers:
            for size, number in server.batches.items():
                batches[size] = batches.get(size, 0) + number
        waited = [wait for server in servers for wait in server.waited_s]
        total_s = stage.warmup_s + stage.duration_s
        return Measurement(
            mode=stage.mode,
            load=stage.load,
            images_per_request=self.images_per_request,
            duration_s=stage.duration_s,
            samples=np.sort(found_in, order="due"),
            answered=np.sort(found["done"][good]),
            client_cpu_s=0.0,
            processes=self.clients,
            server={
                "utilization": sum(each.busy_s for each in machines) / total_s / self.times.cores / len(machines),
                "queue_p95_s": float(np.percentile(waited, 95)) if waited else 0.0,
                "batches": {str(size): batches[size] for size in sorted(batches)},
            },
        )


def _arrivals(
    env: simpy.Environment,
    ask: Any,
    due: npt.NDArray[np.float64],
    server: npt.NDArray[Any],
    which: npt.NDArray[Any],
    sampled: int,
) -> Generator[simpy.Event, None, None]:
    kept = server < sampled
    for moment, place, request in zip(due[kept].tolist(), server[kept].tolist(), which[kept].tolist(), strict=True):
        yield env.timeout(max(0.0, moment - env.now))
        ask(moment, place, request)
