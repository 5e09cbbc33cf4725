"""Runs a server that is another program: starts it, says where it listens, and hands it the signals that stop it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ServerCommand:
    """A command, where it will listen, and how to tell that it does."""

    command: list[str]
    host: str
    port: int
    rest_port: int | None
    models: tuple[str, ...]
    is_ready: Callable[[ServerCommand], bool]
    environment: dict[str, str] = field(default_factory=dict)
    #: Commands that stop the server gently, and at once; where there are none, SIGTERM does.
    stop: list[str] = field(default_factory=list)
    stop_now: list[str] = field(default_factory=list)


def run(server: ServerCommand) -> int:
    """Runs a server until it ends or a signal stops it; returns its exit status, or 0 after a signal."""
    asked = handled = 0

    def note(*_: object) -> None:
        nonlocal asked
        asked += 1

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    process = _start(server, server.command)
    stopping: list[subprocess.Popen[bytes]] = []
    ready = False
    while process.poll() is None:
        if asked > handled:
            handled += 1
            if server.stop:
                stopping.append(_start(server, server.stop_now if handled > 1 else server.stop))
        if handled and all(each.poll() is not None for each in stopping):
            os.killpg(process.pid, signal.SIGTERM)
        if not ready and not asked and server.is_ready(server):
            ready = True
            _announce(server)
        time.sleep(0.1)
    if server.stop and not stopping:
        stopping.append(_start(server, server.stop))
    for each in stopping:
        each.wait()
    status = process.returncode
    return 0 if asked else status if status >= 0 else 128 - status


def _start(server: ServerCommand, command: list[str]) -> subprocess.Popen[bytes]:
    # In a session of its own: Ctrl-C is this process's to answer, or a child would get it twice.
    environment = {**os.environ, **server.environment}
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=environment, start_new_session=True
    )


def _announce(server: ServerCommand) -> None:
    for name in server.models:
        print(f"serving {name} at {server.host}:{server.port}")
    if server.rest_port is not None:
        print(f"REST at {server.host}:{server.rest_port}")
    print("ready", flush=True)
