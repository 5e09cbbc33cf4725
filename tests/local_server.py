"""An embedded server in a process of its own, for the scripts of this folder."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator


class ServerError(Exception):
    """The server did not start; its log follows."""


@contextlib.contextmanager
def served(*flags: str) -> Iterator[str]:
    """Runs the embedded server on a free port, yields its address, and stops it however the block ends.

    Args:
        flags: of `featserve-serve`, what to serve.

    Raises:
        ServerError: it ended before it was ready.
    """
    command = [
        sys.executable,
        "-m",
        "featserve_serving",
        "--runtime=embedded",
        "--port=0",
        "--rest_api_port=-1",
        *flags,
    ]
    with tempfile.TemporaryFile("w+") as log:
        # Its own session: Ctrl-C reaches the script alone, which then stops the server.
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        try:
            line = server.stdout.readline() if server.stdout else ""
            if not line:
                log.seek(0)
                raise ServerError(f"the server did not start:\n{log.read()}")
            print(f"server   embedded, {line.strip()}")
            yield line.split()[-1]
        finally:
            server.terminate()
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()
