"""The command as a whole: its release, completion and what it takes from the environment."""

import pathlib
import shutil
import subprocess

import featserve_client
import pytest
from featserve_client import ConfigError, FeatureClient
from featserve_client.cli.main import main

from ..fake_server import FakeServer, jpeg


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"featserve {featserve_client.__version__}\n"


def test_completion_is_the_shells_own_language(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as done:
        main(["--print-completion", "bash"])
    script = capsys.readouterr().out
    assert done.value.code == 0 and "embed" in script
    bash = shutil.which("bash")
    assert bash and subprocess.run([bash, "-n"], input=script, text=True, check=True)
    monkeypatch.setitem(__import__("sys").modules, "shtab", None)
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    assert "pip install 'featserve[completion]'" in capsys.readouterr().err


def test_the_environment_says_what_no_option_says(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    assert (FeatureClient().target, FeatureClient().model) == ("localhost:8500", "efficientnet_lite0")
    monkeypatch.setenv("FEATSERVE_SERVER", server.target)
    monkeypatch.setenv("FEATSERVE_MODEL", "toy")
    with FeatureClient() as client:
        assert client.extract(jpeg(0))["late"].shape == (1, 4)
    assert main(["status"]) == 0
    assert capsys.readouterr().out == "toy version 1: AVAILABLE\n"
    assert main(["status", "--model", "other"]) == 2
    assert "model 'other' at" in capsys.readouterr().err
    token = tmp_path / "token"
    token.write_text("secret\n")
    monkeypatch.setenv("FEATSERVE_TOKEN_FILE", str(token))
    with pytest.raises(ConfigError, match="token needs tls"):
        FeatureClient()
    monkeypatch.setenv("FEATSERVE_CA", "/no/such.pem")
    with pytest.raises(ConfigError, match="TLS ca: .*/no/such.pem"):
        FeatureClient().status()
    token.unlink()
    with pytest.raises(ConfigError, match="FEATSERVE_TOKEN_FILE: "):
        FeatureClient()
