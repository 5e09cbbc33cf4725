"""`featserve console`, from the command line."""

import subprocess
import sys
import urllib.request
from collections.abc import Callable

import pytest
from featserve_client.cli.main import main

from ..client.fake_server import FakeServer


def test_the_page_is_served_until_it_is_interrupted(server: FakeServer) -> None:
    command = [sys.executable, "-m", "featserve_client.cli", "console", "--server", server.target, "--model", "toy"]
    running = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        line = running.stdout.readline()
        assert line.startswith(f"console of {server.target}: http://127.0.0.1:")
        with urllib.request.urlopen(line.split()[-1], timeout=30) as answer:
            assert b"featserve console" in answer.read()
    finally:
        running.send_signal(2)
        errors = running.communicate(timeout=30)[1]
    assert (running.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--rest", "localhost"], "--rest must be HOST:PORT"),
        (["--rest", "ftp://localhost:1"], "--rest must be HOST:PORT"),
        (["--rest", "localhost:1/path"], "--rest must be HOST:PORT"),
        (["--rest", "localhost:x"], "--rest must be HOST:PORT"),
        (["--port", "70000"], "--port must be 0 to 65535"),
        (["--host", "192.0.2.1"], "the page cannot listen on 192.0.2.1"),
    ],
)
def test_a_wrong_option_has_a_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    assert main(["console", *arguments]) == 2
    assert text in capsys.readouterr().err


def test_another_address_has_a_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    import featserve_console.run as page

    monkeypatch.setattr(page, "run", lambda source, listening, hosts: None)
    assert main(["console", "--host", "0.0.0.0", "--port", str(free_port())]) == 0
    assert "whoever reaches 0.0.0.0 can call the models" in capsys.readouterr().err
    assert main(["console", "--port", "0"]) == 0
    assert capsys.readouterr().err == ""
