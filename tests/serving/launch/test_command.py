"""The command: flags, the choice of a runtime, and how TensorFlow Serving itself is started."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from featserve_serving import SetupError
from featserve_serving.launch import choose, docker, foreign, native
from featserve_serving.launch.cli import main, parse
from featserve_serving.launch.flags import flag_names

from ..model_server_flags import MODEL_SERVER_FLAGS
from ..test_configs import session_bundle_config


def test_both_spellings_of_a_value():
    one = parse(["--port=1", "--model-name", "m", "--enable_batching", "--rest_api_port=-1", "--model_root="])
    assert (one.port, one.model_name, one.enable_batching, one.rest_api_port, one.model_root) == (
        1,
        "m",
        True,
        -1,
        None,
    )
    assert one.given == {"port", "model_name", "enable_batching", "rest_api_port", "model_root"}
    assert parse(["--rest_api_port", "-1"]).rest_api_port == -1
    assert not parse(["--enable_model_warmup=false"]).enable_model_warmup
    assert not parse(["--enable_model_warmup", "0"]).enable_model_warmup


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--prot=1"], "unknown flag --prot; did you mean --port?\n"),
        (["--model-rot", "x"], "unknown flag --model-rot; did you mean --model_root"),
        (["--model_ro=x"], "unknown flag --model_ro; did you mean --model_root"),
        (["--zzz=1"], "unknown flag --zzz; --help lists all flags\n"),
        (["--port=x"], "--port: expects a whole number; received 'x'"),
        (["--stop_grace_seconds=x"], "--stop_grace_seconds: expects a number; received 'x'"),
        (["--port"], "--port: expected one argument"),
        (["8500"], "expected a flag such as --port=8500, received '8500'"),
        (["--enable_batching=maybe"], "expects true or false"),
        (["--runtime=podman"], "--runtime: invalid choice: 'podman' (choose from "),
        (["--port=1"], "give exactly one of --model_root, --model_base_path, --model_config_file; received 0"),
        (["--model_root=/nowhere", "--runtime=embedded"], "/nowhere: No such file or directory; export a model first"),
        (["--model_root=/", "--port=70000", "--runtime=embedded"], "a port from 0 to 65535; received 70000"),
        (["--model_root=/", "--grpc_channel_arguments=x", "--runtime=embedded"], "expects KEY=VALUE,...; received 'x'"),
    ],
)
def test_bad_flags_are_an_error(arguments, text, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert text in captured.err and not captured.out and "Traceback" not in captured.err


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  --{name} " in text for name in flag_names())


#: What a core install lacks; whatever of it is imported shows.
CORE_INSTALL = """
import sys
from importlib.abc import MetaPathFinder

class Nothing(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {extra!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Nothing())
from featserve_serving.launch.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--prot=1"], "did you mean --port?"),
        (["--model_root=/", "--runtime=embedded"], "pip install 'featserve[serving]'"),
        (["--model_root=/", "--runtime=native"], "pip install 'featserve[serving]'"),
        (["models-config", "--model_root=/"], "pip install 'featserve[serving]'"),
    ],
    ids=lambda value: str(value),
)
def test_a_core_install_says_what_to_install(arguments, text, tmp_path):
    done = core_install(arguments, tmp_path)
    assert done.returncode == 2 and text in done.stderr and "Traceback" not in done.stderr


def test_a_core_install_has_the_help(tmp_path):
    done = core_install(["--help"], tmp_path)
    assert done.returncode == 0 and "--model_root" in done.stdout and not done.stderr


def core_install(arguments, folder):
    extra = {"tensorflow", "tensorflow_serving", "prometheus_client", "starlette", "uvicorn", "httptools", "rapidjson"}
    extra |= {"pythonjsonlogger", "grpc_health", "grpc_reflection", "opentelemetry"}
    program(folder, "tensorflow_model_server", "")
    return subprocess.run(
        [sys.executable, "-c", CORE_INSTALL.format(extra=extra), *arguments],
        env={**os.environ, "PATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_every_flag_of_tensorflow_serving_is_known():
    assert set(flag_names()) >= MODEL_SERVER_FLAGS - {"version"}


def program(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("programs", "runtime", "why"),
    [
        ({}, "embedded", "docker is not on PATH; tensorflow_model_server is not on PATH"),
        ({"docker": "exit 0", "tensorflow_model_server": ""}, "docker", "this one is there"),
        ({"docker": "echo no daemon >&2; exit 1", "tensorflow_model_server": ""}, "native", "no daemon; this one"),
        ({"docker": "echo no daemon >&2; exit 1"}, "embedded", "no Docker engine answers: no daemon"),
    ],
)
def test_auto_takes_the_first_that_works_and_says_why(programs, runtime, why, tmp_path, monkeypatch):
    for name, script in programs.items():
        program(tmp_path, name, script)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    chosen, reason = choose.choose("auto")
    assert chosen == runtime and why in reason


def test_a_runtime_that_is_not_there_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    for runtime in ("docker", "native"):
        with pytest.raises(SetupError, match="not on PATH; --runtime embedded needs neither"):
            choose.choose(runtime)
    assert choose.choose("embedded") == ("embedded", "asked for")


def test_the_native_servers_environment_is_the_callers_where_that_says_something(publish, tmp_path, monkeypatch):
    publish(1)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "8")
    plan = native.server_command(parse([f"--model_root={tmp_path / 'models'}"]), tmp_path)
    assert plan.environment == {"TF_ENABLE_ONEDNN_OPTS": "1", "MALLOC_ARENA_MAX": "8"}


def test_the_native_command(publish, tmp_path):
    publish(1)
    publish(2)
    settings = parse(
        [f"--model_root={tmp_path / 'models'}", "--port=8500", "--rest_api_port=8501", "--enable_batching"]
    )
    plan = native.server_command(settings, tmp_path)
    assert plan.command[0] == "tensorflow_model_server"
    assert {
        "--port=8500",
        "--rest_api_port=8501",
        "--enable_batching=true",
        "--grpc_max_threads=256",
        f"--model_config_file={tmp_path / 'models.config'}",
        f"--monitoring_config_file={tmp_path / 'monitoring.config'}",
    } <= set(plan.command)
    assert not any("model_root" in word or "runtime" in word for word in plan.command)
    assert plan.models == ("adder",)
    text = (tmp_path / "models.config").read_text()
    assert f'base_path: "{tmp_path / "models" / "adder"}"' in text and 'key: "canary"' in text


def test_the_native_server_names_its_models_in_the_metrics_of_batches(publish, base_path, tmp_path, capsys):
    publish(1)
    given = [f"--model_base_path={base_path}", "--tensorflow_session_parallelism=3", "--saved_model_tags=serve,gpu"]
    given += ["--enable_model_warmup=false", "--mixed_precision=bfloat16"]
    plan = native.server_command(parse(given), tmp_path)
    file = tmp_path / "platform.config"
    assert f"--platform_config_file={file}" in plan.command
    config = session_bundle_config(file.read_text())
    assert config.enable_session_metadata and not config.enable_model_warmup
    threads = config.session_config.intra_op_parallelism_threads, config.session_config.inter_op_parallelism_threads
    assert threads == (3, 3)
    assert list(config.saved_model_tags) == ["serve", "gpu"] and config.mixed_precision == "bfloat16"
    assert not capsys.readouterr().err
    # The caller's own file is left alone, and so are flags that the file cannot take in.
    own = tmp_path / "own.config"
    own.write_text("")
    plan = native.server_command(parse([*given, f"--platform_config_file={own}"]), tmp_path)
    assert f"--platform_config_file={own}" in plan.command
    plan = native.server_command(parse([*given, "--enable_batching"]), tmp_path)
    assert not any(word.startswith("--platform_config_file") for word in plan.command)
    assert "with --enable_batching the metrics of batches do not name the model" in capsys.readouterr().err


def test_the_containers_are_told_what_to_serve(publish, base_path, tmp_path):
    publish(1)
    publish(2)
    root, tls = tmp_path / "models", tmp_path / "ssl.config"
    tls.write_text("")
    settings = parse(
        [f"--model_root={root}", "--port=0", "--rest_api_port=0", "--host=0.0.0.0", f"--ssl_config_file={tls}"]
        + ["--grpc_max_threads=64", "--serving_tag=2.20.0-gpu"]
    )
    plan = docker.server_command(settings, tmp_path)
    compose_file, override_file = (plan.command[i + 1] for i, word in enumerate(plan.command) if word == "-f")
    assert plan.command[:4] == ["docker", "compose", "-p", "featserve"] and plan.command[8:10] == ["up", "--build"]
    environment = plan.environment
    assert environment | {"PORT": "", "REST_PORT": ""} == {
        "BIND": "0.0.0.0",
        "PORT": "",
        "REST_PORT": "",
        "MODEL_ROOT": str(root),
        "MODELS_CONFIG": str(tmp_path / "models.config"),
        "SERVING_TAG": "2.20.0-gpu",
    }
    assert environment["PORT"] != environment["REST_PORT"]
    assert 'base_path: "/models/adder"' in (tmp_path / "models.config").read_text()
    # Every variable that is set is one that the compose file reads.
    text = Path(compose_file).read_text()
    assert all(f"${{{name}:-" in text for name in environment)
    services = json.loads(Path(override_file).read_text())["services"]
    assert services.keys() == yaml.safe_load(text)["services"].keys()
    assert services["server"]["command"] == [
        "--grpc_max_threads=64",
        "--ssl_config_file=/etc/featserve/ssl_config_file",
    ]
    assert [(each["source"], each["target"]) for each in services["server"]["volumes"]] == [
        (str(tls), "/etc/featserve/ssl_config_file")
    ]


@pytest.mark.parametrize(("uid", "user"), [(0, "10001:10001"), (1234, "1234:1234")])
def test_a_container_never_runs_as_root(publish, base_path, tmp_path, monkeypatch, uid, user):
    publish(1)
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setattr(os, "getgid", lambda: uid)
    docker.server_command(parse([f"--model_base_path={base_path}"]), tmp_path)
    assert json.loads((tmp_path / "compose.json").read_text())["services"]["server"]["user"] == user


def test_the_kits_own_configuration_is_served_from_the_callers_root(tmp_path, monkeypatch):
    file = foreign.kit() / "serving" / "configs" / "models.config"
    root = tmp_path / "mine"
    monkeypatch.setenv("MODEL_ROOT", str(root))
    flags = parse([f"--model_config_file={file}"])
    with pytest.raises(SetupError, match=f"/models/efficientnet_lite0 is {root}/efficientnet_lite0 on this machine"):
        docker.server_command(flags, tmp_path)
    (root / "efficientnet_lite0").mkdir(parents=True)
    plan = docker.server_command(flags, tmp_path)
    assert plan.environment["MODEL_ROOT"] == str(root) and plan.models == ("efficientnet_lite0",)
    assert not json.loads((tmp_path / "compose.json").read_text())["services"]["server"]["volumes"]
    # Without a root of the caller's it is the one that the compose file has.
    monkeypatch.delenv("MODEL_ROOT")
    monkeypatch.setattr(foreign, "kit", lambda: tmp_path)
    (tmp_path / "build" / "models" / "efficientnet_lite0").mkdir(parents=True)
    assert docker.server_command(flags, tmp_path).environment["MODEL_ROOT"] == str(tmp_path / "build" / "models")


def test_a_configuration_file_is_served_from_its_own_paths(publish, base_path, tmp_path):
    publish(1)
    file = tmp_path / "mine.config"
    file.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{base_path}" model_platform: "tensorflow" }} }}'
    )
    plan = docker.server_command(parse([f"--model_config_file={file}"]), tmp_path)
    (volume,) = json.loads((tmp_path / "compose.json").read_text())["services"]["server"]["volumes"]
    assert plan.environment["MODELS_CONFIG"] == str(file) and volume["source"] == volume["target"] == str(base_path)
    plan = docker.server_command(parse([f"--model_base_path={base_path}", "--model_name=m"]), tmp_path)
    assert plan.environment["MODEL_ROOT"] == str(base_path)
    assert 'base_path: "/models"' in (tmp_path / "models.config").read_text() and plan.models == ("m",)


#: A docker that keeps its environment and runs `up` until `down`. The environment appears whole: once `down` has ended
#: the launcher ends `up`, and on a busy machine with it an `env` that has not yet written.
FAKE_DOCKER = """\
echo "$@" >>{folder}/commands
case "$*" in
  "compose version") exit {compose} ;;
  *" up "*)
    env >{folder}/part
    mv {folder}/part {folder}/environment
    while [ ! -e {folder}/down ]; do sleep 0.1; done
    exit 130 ;;
  *" down") touch {folder}/down ;;
esac
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_takes_the_containers_down(number, publish, base_path, tmp_path, eventually):
    publish(1)
    program(tmp_path, "docker", FAKE_DOCKER.format(folder=tmp_path, compose=0))
    process = subprocess.Popen(
        [sys.executable, "-m", "featserve_serving", "--runtime=docker", f"--model_base_path={base_path}", "--port=0"],
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: (tmp_path / "environment").exists())
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in errors
    commands = (tmp_path / "commands").read_text().splitlines()
    assert commands[-1].endswith(" down") and " up --build " in commands[-2]
    assert f"MODEL_ROOT={base_path}\n" in (tmp_path / "environment").read_text()


def test_docker_without_compose_is_an_error(publish, base_path, tmp_path, monkeypatch, capsys):
    publish(1)
    program(tmp_path, "docker", FAKE_DOCKER.format(folder=tmp_path, compose="1"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert main(["--runtime=docker", f"--model_base_path={base_path}"]) == 2
    assert "docker has no compose plugin" in capsys.readouterr().err


def test_the_containers_need_rest(publish, base_path, tmp_path):
    publish(1)
    with pytest.raises(SetupError, match="--rest_api_port -1: the containers need REST"):
        docker.server_command(parse([f"--model_base_path={base_path}", "--rest_api_port=-1"]), tmp_path)


def test_tensorflow_serving_is_run_and_its_status_returned(publish, base_path, tmp_path, monkeypatch, capfd):
    publish(1)
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder, "tensorflow_model_server", 'echo "$@"; exit 7')
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    status = main(["--runtime=native", f"--model_base_path={base_path}", "--model_name=m", "--port=0"])
    captured = capfd.readouterr()
    assert status == 7 and "--model_config_file=" in captured.err and not captured.out


def test_a_hand_written_entry_is_kept(publish, tmp_path, capsys):
    publish(1)
    publish(2)
    publish(1, model="other")
    root = tmp_path / "models"
    assert main(["models-config", f"--model_root={root}", "--served_from=/models"]) == 0
    text = capsys.readouterr().out
    assert 'base_path: "/models/adder"' in text and 'base_path: "/models/other"' in text
    entry = (
        f'config {{ name: "adder" base_path: "{root / "adder"}" model_platform: "tensorflow" '
        'model_version_policy { specific { versions: 1 } } version_labels { key: "stable" value: 1 } }'
    )
    (root / "models.config").write_text(f"model_config_list {{ {entry} }}")
    assert main(["models-config", f"--model_root={root}"]) == 0
    text = capsys.readouterr().out
    assert "specific" in text and 'key: "canary"' not in text and 'name: "other"' in text


def test_the_embedded_server_says_where_it_is(publish, base_path, server_process, caller):
    publish(1)
    process, port, rest_port = server_process("--model_name=adder", f"--model_base_path={base_path}")
    assert caller(f"127.0.0.1:{port}").predict(1) == (2, 1)
    process.terminate()
    assert process.wait(120) == 0
