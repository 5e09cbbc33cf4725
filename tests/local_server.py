"""An embedded server in a process of its own."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator


class ServerError(Exception):
    """The server did not start; its log follows."""


class LocalServer:
    """`featserve-serve --runtime=embedded`; starts at once, and is ready after `wait_until_ready`.

    Args:
        flags: what to serve, as flags of `featserve-serve`.
        port: of gRPC; 0 takes a free one.
        rest: whether there is a REST API too, on a free port.
    """

    def __init__(self, *flags: str, port: int = 0, rest: bool = False) -> None:
        command = [sys.executable, "-m", "featserve_serving", "--runtime=embedded", f"--port={port}"]
        self._rest = rest
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")
        # Its own session: Ctrl-C reaches the script alone, which then stops the server.
        self.process = subprocess.Popen(
            [*command, f"--rest_api_port={0 if rest else -1}", *flags],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self.port = port
        self.greeting = ""
        self.rest_port: int | None = None

    def wait_until_ready(self) -> "LocalServer":
        """Returns once the server has printed its ports, and that all of its models are there.

        Raises:
            ServerError: the server ended before it was ready.
        """
        self.greeting = self._line()
        self.port = int(self.greeting.rpartition(":")[2])
        while not (line := self._line()).startswith("ready"):
            if line.startswith("REST"):
                self.rest_port = int(line.rpartition(":")[2])
        return self

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def log(self) -> str:
        """What the server has written to stderr."""
        self._log.seek(0)
        return self._log.read()

    def stop(self) -> None:
        """Ends the server, by force if it takes more than 30 seconds."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=30)
        self.kill()

    def kill(self) -> str:
        """Kills the server if it still runs; returns its log."""
        self.process.kill()
        self.process.communicate()
        log = self.log()
        self._log.close()
        return log

    def _line(self) -> str:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            raise ServerError(f"the server did not start:\n{self.log()}")
        return line.strip()


@contextlib.contextmanager
def served(*flags: str) -> Iterator[str]:
    """Runs the embedded server, yields its address, and stops it however the block ends.

    Args:
        flags: what to serve, as flags of `featserve-serve`.

    Raises:
        ServerError: the server ended before it was ready.
    """
    server = LocalServer(*flags)
    try:
        server.wait_until_ready()
        print(f"server   embedded, {server.greeting}")
        yield server.target
    finally:
        server.stop()
