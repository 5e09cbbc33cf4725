"""serving/docker: the scripts run against stub servers; what needs an engine is linted."""

from __future__ import annotations

import json
import mmap
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import yaml

from ..waiting import eventually
from .test_configs import session_bundle_config

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "serving" / "docker"
CONFIGS = ROOT / "serving" / "configs"
ENTRYPOINT = DOCKER / "bin" / "featserve-entrypoint"
HEALTH = DOCKER / "bin" / "featserve-health"

# Of what TensorFlow Serving 2.20.0 answers at /monitoring/prometheus/metrics: the metrics that have samples after a
# Predict, with their labels.
SERVING_METRICS = {
    ":tensorflow:serving:request_count": {"model_name", "status"},
    ":tensorflow:serving:request_latency": {"model_name", "API", "entrypoint", "le"},
    ":tensorflow:serving:runtime_latency": {"model_name", "API", "runtime", "le"},
}
# Registered by TensorFlow's batch function when it first runs (core/kernels/batching_util/batch_resource_base.cc).
BATCHING_METRICS = {
    ":tensorflow:serving:batching:batch_delay_us_v2": {"model_name", "op_name", "processed_batch_size", "le"},
    ":tensorflow:serving:batching:batch_size": {"model_name", "op_name", "le"},
    ":tensorflow:serving:batching:processed_batch_size_v2": {"model_name", "op_name", "batch_size"},
}
# What the embedded server has beyond these.
EMBEDDED_METRICS = {
    "featserve_queue_depth": set[str](),
    "featserve_in_flight": set[str](),
    "featserve_in_flight_limit": set[str](),
    "featserve_queue_limit": set[str](),
    "featserve_refused_total": {"entrypoint"},
    "featserve_model_version_state": {"model", "version"},
    "featserve_executed_batch_size": {"model", "version", "le"},
}
# What `prometheus_record` of the client counts.
CLIENT_METRICS = {"featserve_client_calls_total": {"method", "code"}}

# Listens on --port, and answers "done" to what it gets as soon as the file ANSWER exists.
STUB_SERVER = """\
import json, os, socket, sys, time
flags = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
listener = socket.create_server(("127.0.0.1", int(flags["port"])))
with open(os.environ["STARTED"] + ".environment", "w") as file:
    json.dump(dict(os.environ), file)
with open(os.environ["STARTED"], "w") as file:
    json.dump(sys.argv[1:], file)
if "exit" in flags:
    sys.exit(int(flags["exit"]))
while True:
    connection, _ = listener.accept()
    connection.recv(16)
    while not os.path.exists(os.environ["ANSWER"]):
        time.sleep(0.01)
    connection.sendall(b"done")
    connection.close()
"""


# A shell's background job ignores SIGINT, and so would its children.
INTERRUPTIBLE = """\
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Container:
    """The entrypoint, with a stub for tensorflow_model_server."""

    def __init__(self, folder: Path, free_port: Callable[[], int], stub_server: str = STUB_SERVER) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.started, self.answer = folder / "started", folder / "answer"
        stub = folder / "tensorflow_model_server"
        stub.write_text(f"#!{sys.executable}\n{stub_server}")
        stub.chmod(0o755)
        self.environment = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "CONFIG_DIR": str(CONFIGS),
            "GRPC_PORT": str(self.port),
            "REST_PORT": str(free_port()),
            "PLATFORM_CONFIG": str(folder / "platform.config"),
            "STARTED": str(self.started),
            "ANSWER": str(self.answer),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", INTERRUPTIBLE, str(ENTRYPOINT), *arguments]
        self.process = subprocess.Popen(command, env=self.environment | environment)
        eventually(lambda: self.started.exists() and self.started.stat().st_size > 0)
        return self.process

    def flags(self) -> list[str]:
        flags: list[str] = json.loads(self.started.read_text())
        return flags

    def call(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(b"request")
        return connection

    def serves(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def container(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Container]:
    container = Container(tmp_path, free_port)
    yield container
    if container.process is not None and container.process.poll() is None:
        container.process.send_signal(signal.SIGINT)
        container.process.wait(60)


def test_entrypoint_gives_the_flags_file_then_its_arguments(container: Container) -> None:
    assert container.run("--exit=0").wait(60) == 0
    flags = container.flags()
    assert f"--port={container.port}" in flags
    assert f"--model_config_file={CONFIGS}/models.config" in flags
    assert f"--monitoring_config_file={CONFIGS}/monitoring.config" in flags
    in_file = re.findall(r"^--\S+", (CONFIGS / "server.flags").read_text(), re.MULTILINE)
    assert flags[-len(in_file) - 1 :] == [*in_file, "--exit=0"]


def test_entrypoint_turns_onednn_on_and_bounds_the_allocators_arenas(container: Container) -> None:
    container.run(JEMALLOC="/nowhere")
    given = json.loads((container.folder / "started.environment").read_text())
    assert (given["TF_ENABLE_ONEDNN_OPTS"], given["MALLOC_ARENA_MAX"]) == ("1", "2")
    assert not given["LD_PRELOAD"] and "MALLOC_CONF" not in given


def test_entrypoint_leaves_the_callers_environment(container: Container) -> None:
    container.run(TF_ENABLE_ONEDNN_OPTS="0", MALLOC_ARENA_MAX="8", JEMALLOC="/nowhere")
    given = json.loads((container.folder / "started.environment").read_text())
    assert (given["TF_ENABLE_ONEDNN_OPTS"], given["MALLOC_ARENA_MAX"]) == ("0", "8")


def test_entrypoint_takes_the_allocator_that_the_image_has(container: Container) -> None:
    # Any library does: what is preloaded is another matter.
    library = next(str(path) for path in Path("/").glob("lib/*/libm.so.6"))
    container.run(JEMALLOC=library)
    given = json.loads((container.folder / "started.environment").read_text())
    assert given["LD_PRELOAD"] == library
    assert "background_thread:true" in given["MALLOC_CONF"]


def test_entrypoint_writes_the_platform_configuration(container: Container, tmp_path: Path) -> None:
    cpu_max = tmp_path / "cpu.max"
    cpu_max.write_text("300000 100000\n")
    arguments = ["--enable_model_warmup", "--saved_model_tags=serve,gpu", "--num_request_iterations_for_warmup=2"]
    container.run("--exit=0", *arguments, CPU_MAX_FILE=str(cpu_max)).wait(60)
    file = tmp_path / "platform.config"
    assert container.flags()[0] == f"--platform_config_file={file}"
    flags = pytest.importorskip("featserve_serving.launch.cli").parse(
        [*arguments, "--tensorflow_intra_op_parallelism=3", "--tensorflow_inter_op_parallelism=3"]
    )
    platform_config = pytest.importorskip("featserve_serving.launch.platform_config")
    assert file.read_text() == platform_config.filled(CONFIGS / "platform.config.template", flags)
    assert session_bundle_config(file.read_text()).session_config.inter_op_parallelism_threads == 3


@pytest.mark.parametrize("name", ["enable_batching", "tensorflow_session_config_file", "xla_cpu_compilation_enabled"])
def test_entrypoint_leaves_flags_that_the_platform_configuration_cannot_take_in(
    container: Container, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    container.run(f"--{name}=true", "--exit=0").wait(60)
    assert not any(flag.startswith("--platform_config_file") for flag in container.flags())
    assert f"with --{name} the metrics of batches do not name the model" in capfd.readouterr().err


def test_entrypoint_leaves_a_platform_configuration_of_the_callers(container: Container, tmp_path: Path) -> None:
    container.run("--platform_config_file=/mine", "--exit=0").wait(60)
    given = [flag for flag in container.flags() if flag.startswith("--platform_config_file")]
    assert given == ["--platform_config_file=/mine"] and not (tmp_path / "platform.config").exists()


def test_entrypoint_exits_as_a_server_that_fails(container: Container) -> None:
    assert container.run("--exit=3").wait(60) == 3


@pytest.mark.parametrize(("quota", "threads"), [("150000 100000", 2), ("400000 100000", 4), ("max 100000", None)])
def test_entrypoint_fits_threads_to_the_cpu_quota(container: Container, quota: str, threads: int | None) -> None:
    cpu_max = container.folder / "cpu.max"
    cpu_max.write_text(f"{quota}\n")
    container.run("--exit=0", CPU_MAX_FILE=str(cpu_max)).wait(60)
    expected = threads or len(os.sched_getaffinity(0))
    assert f"--tensorflow_intra_op_parallelism={expected}" in container.flags()
    assert f"--tensorflow_inter_op_parallelism={expected}" in container.flags()


@pytest.mark.parametrize(("quota", "threads"), [("150000", 2), ("400000", 4), ("-1", None)])
def test_entrypoint_fits_threads_to_the_cpu_quota_of_version_1(
    container: Container, quota: str, threads: int | None
) -> None:
    for name, value in {"cpu.cfs_quota_us": quota, "cpu.cfs_period_us": "100000"}.items():
        (container.folder / name).write_text(f"{value}\n")
    container.run("--exit=0", CPU_MAX_FILE="/nowhere", CFS_DIR=str(container.folder)).wait(60)
    expected = threads or len(os.sched_getaffinity(0))
    assert f"--tensorflow_intra_op_parallelism={expected}" in container.flags()


def test_sigterm_stops_an_idle_server(container: Container) -> None:
    process = container.run()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not container.serves()


def test_sigterm_lets_the_call_in_flight_finish(container: Container) -> None:
    process = container.run()
    with container.call() as connection:
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        container.answer.touch()
        assert connection.recv(16) == b"done"
    assert process.wait(60) == 0
    assert not container.serves()


def test_the_drain_has_an_end(container: Container) -> None:
    process = container.run(DRAIN_SECONDS="1")
    with container.call() as connection:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert connection.recv(16) == b""


# Holds a connection to REST for ever, as Prometheus does.
@pytest.fixture
def scraper(container: Container) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", int(container.environment["REST_PORT"]))) as rest:
        with socket.create_connection(rest.getsockname()) as connection, rest.accept()[0]:
            yield connection


@pytest.mark.usefixtures("scraper")
def test_a_scraper_holds_up_a_stop_for_the_seconds_of_rest_alone(container: Container) -> None:
    process = container.run(REST_DRAIN_SECONDS="1", DRAIN_SECONDS="1000")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


@pytest.mark.usefixtures("scraper")
def test_the_seconds_of_rest_do_not_end_a_call_of_grpc(container: Container) -> None:
    process = container.run(REST_DRAIN_SECONDS="0", DRAIN_SECONDS="1000")
    with container.call() as connection:
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        container.answer.touch()
        assert connection.recv(16) == b"done"
    assert process.wait(60) == 0


def test_a_call_of_rest_has_its_seconds(container: Container, scraper: socket.socket) -> None:
    process = container.run(REST_DRAIN_SECONDS="1000", DRAIN_SECONDS="1000")
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5)
    scraper.close()
    assert process.wait(60) == 0


def test_a_second_sigterm_stops_at_once(container: Container) -> None:
    process = container.run()
    with container.call():
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_sigint_stops_at_once(container: Container) -> None:
    process = container.run()
    with container.call():
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


# Answers every call with its request after 0.1 s, and ages connections as the flags say.
STUB_GRPC_SERVER = """\
import os, sys, time
from concurrent.futures import ThreadPoolExecutor
import grpc
class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: (time.sleep(0.1), request)[1])
flags = dict(word[2:].partition("=")[::2] for word in sys.argv[1:])
arguments = [pair.split("=") for pair in flags["grpc_channel_arguments"].split(",")]
options = [(name, int(value)) for name, value in arguments]
server = grpc.server(ThreadPoolExecutor(8), handlers=[Echo()], options=options)
server.add_insecure_port("127.0.0.1:" + flags["port"])
server.start()
open(os.environ["STARTED"], "w").write("started")
server.wait_for_termination()
"""


class Relay(socketserver.ThreadingTCPServer):
    """A name for a server: a new connection goes to `port` as it is then, as after a new answer from DNS."""

    port = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), RelayHandler)


class RelayHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Relay)
        with socket.create_connection(("127.0.0.1", self.server.port)) as upstream:
            back = threading.Thread(target=self.copy, args=(upstream, self.request))
            back.start()
            self.copy(self.request, upstream)
            back.join()

    @staticmethod
    def copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_drain_loses_no_call(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Two servers; one is no longer listed and gets SIGTERM, under callers that never retry."""
    containers = [Container(tmp_path / name, free_port, STUB_GRPC_SERVER) for name in ("old", "new")]
    finished = threading.Event()
    answers: list[bytes | grpc.StatusCode] = []
    with Relay() as relay:

        def call() -> None:
            options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(f"127.0.0.1:{relay.server_address[1]}", options) as channel:
                echo = channel.unary_unary("/echo/Echo")
                while not finished.is_set():
                    try:
                        answers.append(echo(b"done", timeout=60))
                    except grpc.RpcError as error:
                        answers.append(error.code())

        processes = [each.run("--grpc_channel_arguments=grpc.max_connection_age_ms=1000") for each in containers]
        relay.port = containers[0].port
        serving = threading.Thread(target=relay.serve_forever)
        callers = [threading.Thread(target=call) for _ in range(4)]
        for thread in (serving, *callers):
            thread.start()
        try:
            eventually(lambda: len(answers) > 8)
            relay.port = containers[1].port
            processes[0].send_signal(signal.SIGTERM)
            assert processes[0].wait(60) == 0
            answered = len(answers)
            eventually(lambda: len(answers) > answered + 8)
        finally:
            finished.set()
            for caller in callers:
                caller.join()
            relay.shutdown()
            serving.join()
            for process in processes:
                process.send_signal(signal.SIGINT)
                process.wait(60)
    assert set(answers) == {b"done"}


def test_the_drain_outlasts_every_connection_and_is_outlasted_by_the_engine() -> None:
    flags = (CONFIGS / "server.flags").read_text()
    (age_ms,) = re.findall(r"max_connection_age_ms=(\d+)", flags)
    (grace_ms,) = re.findall(r"max_connection_age_grace_ms=(\d+)", flags)
    (drain_s,) = re.findall(r"\{DRAIN_SECONDS:=(\d+)", ENTRYPOINT.read_text())
    stop_grace = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["server"]["stop_grace_period"]
    assert int(age_ms) * 1.1 + int(grace_ms) <= int(drain_s) * 1000
    assert int(drain_s) < int(stop_grace.removesuffix("s"))


STATUS = {
    "model_version_status": [{"version": "1", "state": "%s", "status": {"error_code": "OK", "error_message": ""}}]
}


@pytest.fixture
def rest_port() -> Iterator[int]:
    """A REST API that serves the model `up`, once served `gone`, and knows nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state = {"/v1/models/up": "AVAILABLE", "/v1/models/gone": "END"}.get(self.path)
            body = json.dumps(STATUS, indent=1) % state if state else '{"error": "no such model"}'
            self.send_response(200 if state else 404)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def health(rest_port: int, *models: str, config: Path = CONFIGS / "models.config") -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "REST_PORT": str(rest_port), "MODELS_CONFIG": str(config)}
    return subprocess.run([HEALTH, *models], env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("models", "healthy"), [(["up"], True), (["gone"], False), (["nope"], False), (["up", "gone"], False)]
)
def test_health_asks_for_available(rest_port: int, models: list[str], healthy: bool) -> None:
    result = health(rest_port, *models)
    assert (result.returncode == 0) is healthy
    assert healthy or f"model {models[-1]} has no AVAILABLE version" in result.stderr


@pytest.mark.parametrize(
    ("config", "healthy"),
    [
        ('model_config_list { config { name: "up" base_path: "/m/up" } }', True),
        ('# name: "gone"\nmodel_config_list {\n  config { name:"up" }\n  config { name: "up" }\n}', True),
        ('model_config_list { config { name: "up" } config { name: "gone" } }', False),
        ("model_config_list { }", False),
    ],
)
def test_health_finds_the_models_in_the_config(rest_port: int, tmp_path: Path, config: str, healthy: bool) -> None:
    (tmp_path / "models.config").write_text(config)
    assert (health(rest_port, config=tmp_path / "models.config").returncode == 0) is healthy


def test_health_fails_where_nothing_listens(free_port: Callable[[], int]) -> None:
    assert health(free_port(), "up").returncode != 0


def scripts() -> list[Path]:
    return sorted((DOCKER / "bin").iterdir())


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.name)
def test_scripts_are_executable_bash(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/bin/bash\n")
    subprocess.run(["bash", "-n", script], check=True)


def lint(tool: str, *arguments: str | Path) -> None:
    """Runs a linter that a package of the dev extra installs beside Python."""
    path = shutil.which(tool, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if path is None:
        pytest.skip(f"{tool} is not installed")
    result = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", ["Dockerfile", "client.Dockerfile"])
def test_dockerfile_passes_hadolint(name: str) -> None:
    lint("hadolint", DOCKER / name)


def test_scripts_pass_shellcheck() -> None:
    lint("shellcheck", *scripts())


def test_compose_file_fits_the_compose_specification() -> None:
    lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml")


def dockerfile(name: str = "Dockerfile") -> list[str]:
    text = re.sub(r"\\\n\s*", "", (DOCKER / name).read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("name", ["Dockerfile", "client.Dockerfile"])
def test_dockerfile_pins_its_images(name: str) -> None:
    tags = [line.split("=")[1] for line in dockerfile(name) if re.match(r"ARG \w+_TAG=", line)]
    assert tags
    assert all(re.fullmatch(r"\d+\.\d+\.\d+(-slim)?", tag) for tag in tags)
    stages = {line.split(" AS ")[1] for line in dockerfile(name) if " AS " in line}
    for line in dockerfile(name):
        if line.startswith("FROM "):
            image = line.split()[1]
            assert image in stages or re.fullmatch(r"\$\{(\w+)_IMAGE\}:\$\{\1_TAG\}", image)


def test_dockerfile_starts_scripts_that_it_copies() -> None:
    # In exec form: a shell in between would not pass SIGTERM on.
    (entrypoint,) = [line.removeprefix("ENTRYPOINT ") for line in dockerfile() if line.startswith("ENTRYPOINT")]
    (check,) = re.findall(r"^HEALTHCHECK .*CMD (.*)$", "\n".join(dockerfile()), re.MULTILINE)
    names = {path.name for path in scripts()}
    assert json.loads(entrypoint) == ["featserve-entrypoint"]
    assert {*json.loads(entrypoint), *json.loads(check)} == names


def test_dockerfile_copies_what_exists_and_the_context_lets_through() -> None:
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    let_through = [line[1:] for line in ignored if line.startswith("!")]
    sources = [
        word
        for line in dockerfile()
        if line.startswith("COPY") and "--from" not in line
        for word in line.split()[1:-1]
        if not word.startswith(("--", "$"))
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert any(source.startswith(prefix) for prefix in let_through)


def test_a_build_without_a_target_bakes_nothing() -> None:
    names = [line.split(" AS ")[1] for line in dockerfile() if line.startswith("FROM")]
    assert names[-1] == "runtime"
    (base,) = [line.split()[1] for line in dockerfile() if line.endswith(" AS runtime")]
    stage = "\n".join(dockerfile()).split(f" AS {base}\n")[1].split("\nFROM")[0]
    assert "/models " not in stage and "build/" not in stage
    assert compose()["services"]["server"]["build"]["target"] == "runtime"


@pytest.mark.parametrize(("served", "status"), [(["a", "b"], 0), (["a"], 1), ([], 1)])
def test_an_image_that_carries_a_model_serves_it(tmp_path: Path, served: list[str], status: int) -> None:
    for name in ("a", "b"):
        (tmp_path / "models" / name).mkdir(parents=True)
    (tmp_path / "models.config").write_text("".join(f'base_path: "{tmp_path}/models/{name}"\n' for name in served))
    (check,) = [line.removeprefix("RUN ") for line in dockerfile() if line.startswith("RUN")]
    script = check.replace("/etc/featserve", str(tmp_path)).replace("/models/*/", f"{tmp_path}/models/*/")
    result = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == status
    missing = "b" if served else "a"
    assert not status or f"models.config does not serve {tmp_path}/models/{missing}: " in result.stderr


def test_older_engines_read_the_files() -> None:
    # docker-compose 1.29 refuses a name, podman before 5 a start interval.
    assert "name" not in compose()
    assert "--start-interval" not in (DOCKER / "Dockerfile").read_text()


def test_dockerfile_runs_as_a_numbered_user() -> None:
    # A number, so that Kubernetes can tell that it isn't root.
    users = [
        line.split()[1]
        for name in ("Dockerfile", "client.Dockerfile")
        for line in dockerfile(name)
        if line.startswith("USER")
    ]
    assert users
    assert all(re.fullmatch(r"[1-9]\d*:[1-9]\d*", user) for user in users)


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return document


def test_compose_mounts_what_exists() -> None:
    for service in compose()["services"].values():
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).split(":")[0]
            if source not in compose()["volumes"] and "build/" not in source:
                assert (DOCKER / source).exists(), source


@pytest.mark.parametrize("name", ["server", "watch"])
def test_compose_services_are_locked_down_and_on_loopback(name: str) -> None:
    ours = compose()["services"][name]
    assert ours["read_only"] is True
    assert ours["cap_drop"] == ["ALL"]
    for service in compose()["services"].values():
        assert all(port.startswith(("127.0.0.1:", "${BIND:-127.0.0.1}:")) for port in service["ports"])


def test_prometheus_scrapes_the_path_that_the_server_serves() -> None:
    job, _ = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert f'path: "{job["metrics_path"]}"' in (CONFIGS / "monitoring.config").read_text()
    assert job["static_configs"] == [{"targets": ["server:8501"]}]
    assert "server" in compose()["services"]


def watch_options(command: list[str]) -> dict[str, str]:
    """Returns the options of a `featserve watch` that the command itself takes."""
    dispatch = pytest.importorskip("featserve_client.cli.dispatch")
    parsed: dict[str, str] = vars(dispatch._parser().parse_args(command))
    return parsed


def test_the_watch_of_compose_is_scraped_where_it_runs() -> None:
    service = compose()["services"]["watch"]
    assert service["profiles"] == ["watch"]  # nobody else runs it, nor builds its image
    options = watch_options(service["command"])
    assert options["server"] == ["server:8500"] and options["host"] == "0.0.0.0"
    _, job = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    (names,) = job["dns_sd_configs"]
    assert names["names"] == ["watch"] and names["port"] == options["port"]
    assert service["ports"][0].endswith(f":{options['port']}")
    (volume,) = service["volumes"]
    assert Path(options["remember"]).parent == Path(volume.split(":")[1])


def test_the_client_image_is_built_from_what_the_package_is_made_of() -> None:
    text = (DOCKER / "client.Dockerfile.dockerignore").read_text()
    let_through = {line[1:] for line in text.splitlines() if line.startswith("!")}
    for name in let_through:
        assert (ROOT / name).exists(), name
    project = (ROOT / "pyproject.toml").read_text()
    (packages,) = re.findall(r"^packages = \[(.*)\]", project, re.MULTILINE)
    assert {path.split("/")[0] for path in re.findall(r'"([^"]+)"', packages)} <= let_through
    assert {"README.md", "LICENSE", "pyproject.toml", "constraints.txt"} <= let_through
    lines = "\n".join(dockerfile("client.Dockerfile"))
    service = compose()["services"]["watch"]
    assert service["build"]["dockerfile"] == "serving/docker/client.Dockerfile"
    (folder,) = re.findall(r"^RUN install -d -o 10001 -g 10001 (\S+)$", lines, re.MULTILINE)
    assert service["volumes"] == [f"watch:{folder}"]
    assert re.search(rf"^EXPOSE {watch_options(service['command'])['port']}$", lines, re.MULTILINE)
    assert 'ENTRYPOINT ["featserve"]' in lines and "[prometheus]" in lines


def test_grafana_is_provisioned_with_the_dashboard() -> None:
    provisioning = DOCKER / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "featserve.yaml").read_text())["providers"]
    mounts = [volume.split(":")[1] for volume in compose()["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounts
    assert source["url"] == "http://prometheus:9090"
    for panel in panels():
        assert panel["datasource"]["uid"] == source["uid"]


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DOCKER / "grafana" / "dashboards" / "featserve.json").read_text())
    return document


def panels() -> list[dict[str, Any]]:
    """Every panel that shows something, those of folded rows too."""
    return [inner for panel in dashboard()["panels"] for inner in panel.get("panels", [panel])]


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def test_dashboard_asks_for_metrics_and_labels_that_the_server_has() -> None:
    known = SERVING_METRICS | BATCHING_METRICS | EMBEDDED_METRICS | CLIENT_METRICS
    for query in queries():
        series = re.findall(r"(:tensorflow[\w:]*|featserve_\w+)(?:\{([^}]*)\})?", query)
        assert series, query
        groups = {label for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(", ")}
        for metric, selector in series:
            histogram = re.sub(r"_(bucket|sum|count)$", "", metric)
            name = metric if metric in known else histogram
            assert name in known, metric
            assert ("le" in known[name]) == (name == histogram != metric), f"{metric} is the wrong kind of metric"
            # Prometheus itself adds the instance.
            labels = groups - {"instance"} | set(re.findall(r"(\w+)\s*(?:=~|!=|=)", selector))
            assert labels <= known[name], query


def test_dashboard_leaves_health_checks_out() -> None:
    """They ask for a model's status, whose latency has an empty API; the count tells them from nothing."""
    shown = [query for query in queries() if ":tensorflow:serving:request_" in query]
    assert shown
    for query in shown:
        for selector in re.findall(r":request_latency\w*\{([^}]*)\}", query):
            assert 'API!=""' in selector
        for selector in re.findall(r":request_count\{([^}]*)\}", query):
            assert 'status!="OK"' in selector
    pytest.importorskip("prometheus_client")
    from featserve_serving.telemetry.call import Call
    from featserve_serving.telemetry.metrics import Metrics

    metrics = Metrics(SimpleNamespace(running=0, waiting=0, threads=4, queue=8), lambda: ["m"])
    for method, entrypoint in (("", "REST"), ("predict", "REST"), ("Predict", "gRPC")):
        metrics.observe(Call(method=method, entrypoint=entrypoint, request_id="", model="m"), None, 0.1)
    counted = re.findall(
        r'^:tensorflow:serving:request_latency_count\{API="(.*?)"', metrics.page().decode(), re.MULTILINE
    )
    assert sorted(counted) == ["", "Predict", "predict"]


@pytest.mark.parametrize("metric", ["request_latency", "runtime_latency"])
def test_latencies_have_their_mean_beside_the_percentiles(metric: str) -> None:
    (panel,) = [panel for panel in panels() if f"{metric}_bucket" in panel["targets"][0]["expr"]]
    (mean,) = [each["expr"] for each in panel["targets"] if each["legendFormat"].endswith(" mean")]
    assert re.findall(rf"{metric}_(\w+)\{{", mean) == ["sum", "count"] and mean.endswith(" / 1e6")


def test_batching_metrics_are_in_the_tensorflow_library() -> None:
    spec = find_spec("tensorflow")
    if spec is None or spec.origin is None:
        pytest.skip("TensorFlow is not installed")
    (library,) = Path(spec.origin).parent.glob("libtensorflow_cc.*")
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        for metric in BATCHING_METRICS:
            # The exporter writes each slash as a colon.
            assert image.find(metric.replace(":", "/").encode() + b"\0") >= 0, metric


def test_embedded_metrics_are_on_the_page_of_the_embedded_server() -> None:
    metrics = pytest.importorskip("featserve_serving.telemetry.metrics").Metrics(
        SimpleNamespace(running=1, waiting=2, threads=4, queue=8), list
    )
    metrics.add_batches(lambda: [("vgg16", 1, [0, 1])])
    metrics.add_models(lambda: [("vgg16", 1, 30)])
    page = metrics.page().decode()
    for name, labels in EMBEDDED_METRICS.items():
        (sample, *_) = re.findall(rf"^{name}(?:_bucket)?(?:\{{(.*)\}})? ", page, re.MULTILINE)
        assert {label.split("=")[0] for label in sample.split(",") if label} == labels


def test_client_metrics_are_those_of_the_client() -> None:
    prometheus_client = pytest.importorskip("prometheus_client")
    interceptors = pytest.importorskip("featserve_client.interceptors")
    registry = prometheus_client.CollectorRegistry()
    record = interceptors.prometheus_record(registry)
    record(interceptors.CallRecord(method="/a.B/Predict", code=grpc.StatusCode.OK, seconds=1.0))
    page = prometheus_client.generate_latest(registry).decode()
    for name, labels in CLIENT_METRICS.items():
        (sample,) = re.findall(rf"^{name}\{{(.*)\}} ", page, re.MULTILINE)
        assert {label.split("=")[0] for label in sample.split(",")} == labels


def test_the_panels_of_overload_say_what_tensorflow_serving_hides() -> None:
    by_title = {panel["title"]: panel for panel in panels()}
    assert "TensorFlow Serving shows none of them" in by_title["Refused calls"]["description"]
    assert "the 256 threads of server.flags" in by_title["Saturation"]["description"]


def test_dashboard_queries_are_promql() -> None:
    promql_parser = pytest.importorskip("promql_parser")
    for query in queries():
        promql_parser.parse(query.replace("$__rate_interval", "1m").replace("$model", ".*"))


def test_panels_that_the_embedded_server_leaves_empty_say_so() -> None:
    for panel in panels():
        empty = all(":tensorflow:serving:batching" in target["expr"] for target in panel["targets"])
        assert empty == ("TensorFlow Serving alone" in panel["description"]), panel["title"]
