"""All servers: found by their names anew, each looked at in its own time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from ..client import FeatureClient
from ..exceptions import ConnectError
from ..transport.address import servers_of
from .references import References
from .server import Cost, Finding, WatchedServer

#: Servers that are looked at in the same moment, at most.
_AT_ONCE = 16
#: Seconds for which the findings of an address stay that its name no longer has.
_FORGET_S = 300.0
#: Seconds between two looks at what is due.
_TICK_S = 1.0


class Watch:
    """Watches the servers behind addresses and names in threads that end with the process."""

    def __init__(
        self,
        targets: Sequence[str],
        models: Sequence[str],
        make_client: Callable[[str, str, str], FeatureClient],
        *,
        references: References,
        photo: bytes,
        every_s: float,
        report: Callable[[Finding], None] = lambda finding: None,
        find: Callable[[str], list[str]] = servers_of,
        forget_s: float = _FORGET_S,
    ) -> None:
        """Takes the servers to watch, without asking anybody yet.

        Args:
            targets: addresses, HOST:PORT; a name may stand for several servers.
            models: names of models; each server is asked for each.
            make_client: makes a client from a server's address, the target that it was found by, and a model.
            references: the references of versions.
            photo: the canary photo, an encoded image.
            every_s: seconds between two looks at a server.
            report: called from any thread with the findings, when they change.
            find: returns the servers that a target stands for.
            forget_s: seconds for which the findings of an address stay that its name no longer has.
        """
        self._targets = targets
        self._models = models
        self._make_client = make_client
        self._references = references
        self._photo = photo
        self._every_s = every_s
        self._report = report
        self._find = find
        self._forget_s = forget_s
        self._servers: dict[str, WatchedServer] = {}
        self._places = threading.Semaphore(_AT_ONCE)
        self._looks: dict[str, threading.Thread] = {}
        self._named_at = 0.0
        self._error: BaseException | None = None

    def findings(self) -> list[Finding]:
        """Returns the last findings, by server, model and version."""
        return [finding for _, server in sorted(self._servers.copy().items()) for finding in server.findings()]

    def costs(self) -> Mapping[str, Cost]:
        """Returns the pace of the looks at each server."""
        return {address: server.cost() for address, server in sorted(self._servers.copy().items())}

    def once(self) -> list[Finding]:
        """Looks at every server once, due or not; returns the findings.

        Raises:
            OutputError: a reference that was first seen cannot be remembered.
        """
        self._find_servers()
        self._start_looks(math.inf)
        for look in self._looks.values():
            look.join()
        self._settle()
        return self.findings()

    def run(self, stop: threading.Event) -> None:
        """Looks at every server again and again until `stop` is set.

        Raises:
            OutputError: a reference that was first seen cannot be remembered.
        """
        next_search = 0.0
        while not stop.is_set():
            now = time.monotonic()
            if now >= next_search:
                next_search = now + self._every_s
                self._find_servers()
            self._start_looks(time.monotonic())
            self._settle()
            stop.wait(min(_TICK_S, self._every_s))

    def _find_servers(self) -> None:
        now = time.monotonic()
        for target in self._targets:
            try:
                addresses = self._find(target)
            except ConnectError:
                # A name that is not known for a moment takes no server away; gRPC's words say what is wrong with it.
                addresses = [name for name, server in self._servers.items() if server.target == target] or [target]
            for address in addresses:
                if address not in self._servers:
                    self._servers[address] = self._watched(address, target)
                self._servers[address].last_named = now
        self._named_at = now
        for address, server in list(self._servers.items()):
            unnamed_s = now - server.last_named
            if unnamed_s > self._forget_s or (unnamed_s and address == server.target):
                del self._servers[address]

    def _watched(self, address: str, target: str) -> WatchedServer:
        return WatchedServer(
            address,
            target,
            self._models,
            lambda address, model: self._make_client(address, target, model),
            every_s=self._every_s,
            report=self._report,
        )

    def _start_looks(self, now: float) -> None:
        self._looks = {address: look for address, look in self._looks.items() if look.is_alive()}
        for address, server in self._servers.items():
            if now >= server.due and server.last_named == self._named_at and address not in self._looks:
                # A thread that waits for a server must not keep the process from ending.
                look = threading.Thread(target=self._look, args=(server,), name=f"watch {address}", daemon=True)
                self._looks[address] = look
                look.start()

    def _look(self, server: WatchedServer) -> None:
        try:
            with self._places:
                server.look(self._photo, self._references)
        except BaseException as exc:  # raised where the watch runs: it must not end unseen
            self._error = exc

    def _settle(self) -> None:
        if self._error is not None:
            raise self._error
        self._references.save()
