"""The images and the containers that are shipped, under a real engine (`make test-containers`).

TensorFlow Serving's image is taken where it is here already, and a stand-in with the embedded server elsewhere.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from featserve_client import TLS, FeatserveError, FeatureClient

from ..waiting import eventually
from .engine import Container
from .kit import DRAIN_S, SERVING, Kit, ask, callers, models_config, photo

pytestmark = pytest.mark.slow
COMPOSE = yaml.safe_load((SERVING / "docker" / "compose.yaml").read_text(encoding="utf-8"))["services"]
COMPOSE_GRACE_S = int(COMPOSE["server"]["stop_grace_period"].removesuffix("s"))
DEPLOYMENT = yaml.safe_load((SERVING / "kubernetes" / "server" / "deployment.yaml").read_text(encoding="utf-8"))


def as_compose() -> list[str]:
    """Returns the options that compose.yaml amounts to, without its mounts and ports."""
    server = COMPOSE["server"]
    limit = re.fullmatch(r"\$\{\w+:-(.+)\}", server["mem_limit"])
    assert limit is not None and server["read_only"] is True
    locked = [f"--security-opt={each.replace(':true', '')}" for each in server["security_opt"]]
    return [
        "--read-only",
        *(f"--tmpfs={each}" for each in server["tmpfs"]),
        *(f"--cap-drop={each}" for each in server["cap_drop"]),
        *locked,
        f"--memory={limit[1]}",
    ]


def as_deployment() -> list[str]:
    """Returns the options that the Deployment amounts to, without its mounts and ports."""
    pod = DEPLOYMENT["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    user = pod["securityContext"]
    context, limits = server["securityContext"], server["resources"]["limits"]
    assert context["readOnlyRootFilesystem"] is True and context["allowPrivilegeEscalation"] is False
    return [
        "--read-only",
        "--tmpfs=/tmp:size=64m",
        *(f"--cap-drop={each}" for each in context["capabilities"]["drop"]),
        "--security-opt=no-new-privileges",
        f"--user={user['runAsUser']}:{user['runAsGroup']}",
        f"--memory={limits['memory'].replace('Gi', 'g')}",
        f"--cpus={limits['cpu']}",
    ]


@dataclass(frozen=True)
class Running:
    """A container, and where it serves."""

    container: Container
    port: int
    rest_port: int

    def client(self, model: str = "first", **options: object) -> FeatureClient:
        return FeatureClient(f"127.0.0.1:{self.port}", model=model, **options)  # type: ignore[arg-type]


Start = Callable[..., Running]


@pytest.fixture
def start(kit: Kit, free_port: Callable[[], int], tmp_path: Path) -> Iterator[Start]:
    """Returns a function that starts a container of the runtime image, and waits until it is healthy."""
    running: list[Container] = []

    def run(*options: object, models: Path = kit.models, command: tuple[object, ...] = (), **given: bool) -> Running:
        port, rest_port = free_port(), free_port()
        config = models_config(models, tmp_path / f"models-{port}.config")
        image = kit.build("runtime")
        container = Container.start(
            kit.engine,
            image,
            *kit.mounts,
            *options,
            f"--env=GRPC_PORT={port}",
            f"--env=REST_PORT={rest_port}",
            f"--env=DRAIN_SECONDS={DRAIN_S}",
            f"--volume={models}:/models:ro",
            f"--volume={config}:/etc/featserve/models.config:ro",
            command=command,
        )
        running.append(container)
        if given.get("healthy", True):
            container.wait_until_healthy()
        return Running(container, port, rest_port)

    yield run
    for container in running:
        container.remove()


@pytest.mark.parametrize("options", [as_compose, as_deployment])
def test_a_container_serves_what_was_exported_and_has_no_rights(
    options: Callable[[], list[str]], kit: Kit, start: Start
) -> None:
    running = start(*options())
    # Of process 1, which is the entrypoint: user, group, and what the kernel lets it do.
    status = dict(line.split(":", 1) for line in running.container.run("cat", "/proc/1/status").splitlines())
    assert status["Uid"].split() == status["Gid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == 0 and status["NoNewPrivs"].strip() == "1"
    with pytest.raises(AssertionError, match="Read-only file system"):
        running.container.run("cp", "/etc/featserve/models.config", "/etc/featserve/other.config")
    ask("verify", running.port, kit.models / "first" / "1")


def test_the_threads_fit_the_quota_of_the_container(kit: Kit, start: Start) -> None:
    if not kit.engine.has_limits():
        pytest.skip("no limits: rootless podman has none with control groups of version 1")
    running = start("--cpus=1")
    command = running.container.run("cat", "/dev/shm/featserve-platform.config")
    assert re.findall(r"(?:intra|inter)_op_parallelism_threads: (\d+)", command) == ["1", "1"]


def test_a_version_that_appears_is_served_and_two_models_are(kit: Kit, start: Start, tmp_path: Path) -> None:
    models = tmp_path / "models"
    for name in ("first", "second"):
        shutil.copytree(kit.models / "first", models / name)
    running = start(*as_compose(), models=models)
    with running.client("second") as second, running.client() as first:
        assert second.metadata().version == first.metadata().version == 1
        shutil.copytree(models / "first" / "1", models / "first" / ".2")
        (models / "first" / ".2").rename(models / "first" / "2")
        eventually(lambda: {each.version for each in first.status() if each.available} == {1, 2}, timeout_s=180)
        assert second.metadata().version == 1


def test_a_drain_loses_no_call(start: Start) -> None:
    old, new = start(*as_compose()), start(*as_compose())
    with callers(old.port, new.port):
        assert old.container.stop(COMPOSE_GRACE_S) == 0


def test_a_container_that_is_killed_serves_again(start: Start) -> None:
    running = start(*as_compose(), f"--restart={COMPOSE['server']['restart']}")
    # From outside the engine, or it would take the kill for a wish.
    os.kill(running.container.inspect()["State"]["Pid"], 9)
    eventually(lambda: running.container.inspect()["RestartCount"] == 1)
    running.container.wait_until_healthy()
    with running.client(wait_for_ready=True) as client:
        assert len(client.extract(photo())) == 1


def test_tls(start: Start, tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    server.cert_chain_pems[0].write_to_path(str(tmp_path / "server.pem"))
    server.private_key_pem.write_to_path(str(tmp_path / "server.key"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ssl_config = [sys.executable, "-m", "featserve_serving", "ssl-config"]
    pair = ["--cert", tmp_path / "server.pem", "--key", tmp_path / "server.key"]
    text = subprocess.run([*ssl_config, *pair], capture_output=True, text=True, check=True).stdout
    (tmp_path / "ssl.config").write_text(text)
    # The embedded server has TLS on REST too, so the health check, which speaks none, cannot tell.
    running = start(
        *as_compose(),
        f"--volume={tmp_path / 'ssl.config'}:/etc/featserve/ssl.config:ro",
        command=("--ssl_config_file=/etc/featserve/ssl.config",),
        healthy=False,
    )
    with running.client(tls=TLS(ca=tmp_path / "ca.pem"), wait_for_ready=True, timeout_s=120) as client:
        client.wait_until_ready(180)
        assert len(client.extract(photo())) == 1
    with running.client(timeout_s=10) as plain, pytest.raises(FeatserveError, match="TLS"):
        plain.status()


def test_the_image_with_the_models_serves_them(kit: Kit, free_port: Callable[[], int], tmp_path: Path) -> None:
    """The targets `models` and `server`, from a context of their own."""
    context = tmp_path / "context"
    shutil.copytree(SERVING / "docker", context / "serving" / "docker")
    shutil.copytree(SERVING / "configs", context / "serving" / "configs")
    shutil.copytree(kit.models, context / "build" / "models")
    models_config(kit.models, context / "build" / "models.config")
    models = kit.build("models", context)
    listed = kit.engine.run("run", "--rm", "--network=host", models, "sh", "-c", "echo /models/*/*")
    assert listed == "/models/first/1"
    # With the kit's own models.config the image would carry a model that it does not serve.
    with pytest.raises(AssertionError, match="models.config does not serve /models/first"):
        kit.build("server", context)
    image = kit.build("server", context, MODELS_CONFIG="build/models.config")
    port = free_port()
    ports = (f"--env=GRPC_PORT={port}", f"--env=REST_PORT={free_port()}")
    container = Container.start(kit.engine, image, *kit.mounts, *as_deployment(), *ports)
    try:
        container.wait_until_healthy()
        with FeatureClient(f"127.0.0.1:{port}", model="first") as client:
            assert len(client.extract(photo())) == 1
    finally:
        container.remove()
