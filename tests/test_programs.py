"""The three programs as a shell starts them: their release at once, and a reader that goes before the end."""

import importlib
import os
import subprocess
import sys
from importlib import metadata

import pytest

from .client.fake_server import FakeServer

PROGRAMS = {
    "featserve": "featserve_client.cli.main",
    "featserve-export": "featserve_export.cli",
    "featserve-serve": "featserve_serving.launch.cli",
}
HEAVY = {"tensorflow", "keras", "numpy", "grpc", "google.protobuf", "PIL", "starlette"}
RUN = "import sys; from {module} import main; sys.argv = {argv!r}; status = main()"


def program(name: str, *arguments: str) -> list[str]:
    """The command that runs a program of this checkout, whatever is installed."""
    return [sys.executable, "-c", RUN.format(module=PROGRAMS[name], argv=[name, *arguments])]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_release_comes_without_the_imports_that_take_time(name: str) -> None:
    *command, code = program(name, "--version")
    done = subprocess.run(
        [*command, f"{code}; print(*sys.modules, file=sys.stderr)"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f"{name} {metadata.version('featserve')}\n"
    assert not HEAVY & set(done.stderr.split())


@pytest.mark.parametrize("module", PROGRAMS.values())
def test_each_package_has_its_release(module: str) -> None:
    package = importlib.import_module(module.partition(".")[0])
    assert package.__version__ == metadata.version("featserve")
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nosuch'"):
        _ = package.nosuch


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("featserve", ["--version"]),
        ("featserve", ["extract", "--help"]),
        ("featserve-export", ["--version"]),
        ("featserve-export", ["--help"]),
        ("featserve-export", ["--list"]),
        ("featserve-serve", ["--version"]),
        ("featserve-serve", ["--help"]),
    ],
)
def test_a_reader_that_has_gone_ends_a_program_without_a_word(name: str, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            program(name, *arguments),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            # argparse itself ends a help that cannot be written, with 0, where nothing is buffered.
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")  # 128 and SIGPIPE, as of a program that the signal ends


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_full_disk_is_told_in_a_sentence(name: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(program(name, "--version"), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == f"{name}: [Errno 28] No space left on device: the output is not complete\n"


def handshake(code: str, server: FakeServer, **environment: str) -> tuple[str, list[str]]:
    """What a process says that runs this code, whose call under TLS finds a server in plain text."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run(
        [sys.executable, "-c", f"import os, sys\n{code}\nprint(os.environ.get('GRPC_VERBOSITY'))", server.target],
        capture_output=True,
        text=True,
        timeout=60,
        env={**inherited, **environment},
    )
    return done.stdout, done.stderr.splitlines()


def test_a_failed_handshake_is_told_once_by_the_command_and_left_to_grpc_in_other_programs() -> None:
    command = """
from featserve_client.cli.main import main
main(["status", "--server", sys.argv[1], "--server-name", "localhost"])
"""
    library = """
from featserve_client import TLS, FeatserveError, FeatureClient
try:
    FeatureClient(sys.argv[1], tls=TLS()).status()
except FeatserveError as exc:
    print(exc, file=sys.stderr)
"""
    server = FakeServer().start()
    try:
        out, lines = handshake(command, server)
        assert out == "NONE\n" and len(lines) == 1
        assert lines[0].startswith("featserve: ") and "does not speak TLS" in lines[0]
        assert handshake(command, server, GRPC_VERBOSITY="INFO")[0] == "INFO\n"
        out, lines = handshake(library, server)
        assert out == "None\n" and "does not speak TLS" in lines[-1]
    finally:
        server.stop()
