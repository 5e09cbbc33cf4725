"""Clients of other people: where they come from, and what is asked of each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLIENTS = Path(__file__).with_name("clients")
#: Kept from run to run, so that each is downloaded once.
INSTALLED = Path(__file__).parents[2] / "build" / "interop"

#: What a client may be asked. The first three are Predict by kind of input; rows, columns and b64 are REST's ways.
CALLS = (
    *("encoded", "uint8", "float", "metadata", "status", "classify"),
    *("rows", "columns", "b64", "gzip", "keep-alive"),
)
REST_CALLS = ("metadata", "status", "rows", "columns", "b64", "gzip", "keep-alive")


class NotToBeHad(Exception):
    """A client is not here and cannot be installed; the text says which and why."""


@dataclass(frozen=True)
class Plan:
    """What the clients are to send, in a file that each language can read.

    Args:
        file: JSON: the two addresses, the model, two photos as JPEG files, as uint8 and as float pixels, and bodies
            for REST.
        fields: what is in it.
    """

    file: Path
    fields: Mapping[str, Any]


def python(*packages: str) -> Callable[[], list[str]]:
    """Returns what gives the interpreter of an environment of its own, so that its pins clash with nobody's."""

    def install() -> list[str]:
        folder = INSTALLED / packages[0]
        interpreter = folder / "bin" / "python"
        complete = folder / "complete"
        if not complete.exists():
            uv = Path(sys.executable).with_name("uv")
            shutil.rmtree(folder, ignore_errors=True)
            _install(packages[0], [uv, "venv", "--quiet", "--python", sys.executable, folder])
            _install(packages[0], [uv, "pip", "install", "--quiet", "--python", interpreter, *packages])
            complete.touch()
        return [str(interpreter)]

    return install


def own_python() -> list[str]:
    """Returns this interpreter: tensorflow-serving-api is a package that the tests themselves need."""
    return [sys.executable]


def node(*packages: str) -> Callable[[], list[str]]:
    """Returns what gives Node, with packages of npm."""

    def install() -> list[str]:
        for program in ("node", "npm"):
            found(program)()
        folder = INSTALLED / "node"
        if not (folder / "node_modules" / packages[-1]).is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            quiet = ("--silent", "--no-audit", "--no-fund", "--ignore-scripts")
            _install(packages[0], ["npm", "install", *quiet, "--prefix", folder, *packages])
        return ["env", f"NODE_PATH={folder / 'node_modules'}", "node"]

    return install


def found(program: str, package: str = "") -> Callable[[], list[str]]:
    """Returns what gives a program of PATH."""

    def find() -> list[str]:
        if shutil.which(program) is None:
            raise NotToBeHad(f"{program} is not on PATH" + (f": apt-get install {package}" if package else ""))
        return [program]

    return find


def _install(name: str, command: list[Any]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if result.returncode:
        raise NotToBeHad(f"{name} cannot be installed: {(result.stderr or result.stdout).strip()[-200:]}")


def run_script(script: str, *arguments: str) -> Callable[[list[str], Plan], dict[str, Any]]:
    """Returns what runs one of `clients`: it prints an object `{"call", "answer"}` on a line for each call."""

    def ask(command: list[str], plan: Plan) -> dict[str, Any]:
        lines = _run([*command, str(CLIENTS / script), str(plan.file), *arguments]).splitlines()
        return {each["call"]: each["answer"] for each in map(json.loads, lines)}

    return ask


def ask_curl(command: list[str], plan: Plan) -> dict[str, Any]:
    """Asks with curl: the answers of REST, and how many connections two transfers took."""
    model = f"http://{plan.fields['rest']}/v1/models/{plan.fields['model']}"
    quiet = [*command, "--silent", "--show-error", "--fail"]
    answers: dict[str, Any] = {
        "status": json.loads(_run([*quiet, model])),
        "metadata": json.loads(_run([*quiet, f"{model}/metadata"])),
    }
    for call in ("rows", "columns", "b64"):
        answers[call] = json.loads(_run([*quiet, "--data", f"@{plan.fields['bodies'][call]}", f"{model}:predict"]))
    body = ["--header", "Content-Encoding: gzip", "--data-binary", f"@{plan.fields['bodies']['gzip']}"]
    answers["gzip"] = json.loads(_run([*quiet, *body, f"{model}:predict"]))
    twice = [*quiet, "--output", "/dev/null", "--output", "/dev/null", "--write-out", "%{num_connects}", model, model]
    answers["keep-alive"] = "1 connection" if _run(twice) == "10" else _run(twice)
    return answers


def ask_wrk(command: list[str], plan: Plan) -> dict[str, Any]:
    """Loads with wrk, which says when an answer is none or no 2xx."""
    report = _run([*command, "-t1", "-c2", "-d2s", *_script(plan), f"http://{plan.fields['rest']}"])
    bad = [line for line in report.splitlines() if "Non-2xx" in line or "Socket errors" in line]
    done = int(report.split(" requests in ")[0].split()[-1])
    good = "1 connection" if done > 10 and not bad else report
    return {"rows": good, "keep-alive": good}


def _script(plan: Plan) -> list[str]:
    file = plan.file.with_suffix(".lua")
    file.write_text(
        f'wrk.method = "POST"\nwrk.path = "/v1/models/{plan.fields["model"]}:predict"\n'
        f'wrk.body = io.open("{plan.fields["bodies"]["rows"]}"):read("*a")\n'
    )
    return ["-s", str(file)]


def ask_ab(command: list[str], plan: Plan) -> dict[str, Any]:
    """Loads with ab, which speaks HTTP/1.0 and asks for keep-alive."""
    url = f"http://{plan.fields['rest']}/v1/models/{plan.fields['model']}:predict"
    post = ["-p", plan.fields["bodies"]["rows"], "-T", "application/json"]
    report = _run([*command, "-q", "-k", "-n", "40", "-c", "2", *post, url])
    figures = dict(line.split(":", 1) for line in report.splitlines() if ":" in line)
    kept = {name: figures.get(name, "0").split()[0] for name in ("Complete requests", "Keep-Alive requests")}
    good = set(kept.values()) == {"40"} and "Non-2xx responses" not in figures
    answer = "1 connection" if good and figures["Failed requests"].split()[0] == "0" else report
    return {"rows": answer, "keep-alive": answer}


def ask_h2load(command: list[str], plan: Plan) -> dict[str, Any]:
    """Loads with h2load: REST by HTTP/1.1, and a Predict as raw HTTP/2, whose gRPC status it does not read."""
    url = f"http://{plan.fields['rest']}/v1/models/{plan.fields['model']}:predict"
    count = ["-n", "40", "-c", "1"]
    rest = _run([*command, "--h1", *count, "-d", plan.fields["bodies"]["rows"], url])
    headers = [word for header in ("content-type: application/grpc", "te: trailers") for word in ("-H", header)]
    predict = f"http://{plan.fields['grpc']}/tensorflow.serving.PredictionService/Predict"
    grpc = _run([*command, *count, "-m", "4", *headers, "-d", plan.fields["bodies"]["grpc"], predict])
    good = {
        name: "1 connection" if "40 succeeded, 0 failed" in report and "40 2xx" in report else report
        for name, report in {"rows": rest, "uint8": grpc}.items()
    }
    return {**good, "keep-alive": good["rows"]}


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, f"{command[0]}: {result.stdout[-500:]}{result.stderr[-2000:]}"
    return result.stdout


@dataclass(frozen=True)
class Foreign:
    """A client, how it is had, how it is asked, and the calls that it has."""

    name: str
    install: Callable[[], list[str]]
    ask: Callable[[list[str], Plan], dict[str, Any]]
    calls: tuple[str, ...]


GRPC_CALLS = CALLS[:6]
WEB = python("requests", "httpx", "aiohttp")
#: These two name no signature: they have the model's default one, of uint8 pixels.
DEFAULT_CALLS = ("uint8", "metadata", "status")

FOREIGN = (
    Foreign("tensorflow-serving-api", own_python, run_script("serving_api.py"), GRPC_CALLS),
    Foreign("@grpc/grpc-js", node("@grpc/grpc-js", "@grpc/proto-loader"), run_script("grpc_js.js"), GRPC_CALLS),
    Foreign("ovmsclient, gRPC", python("ovmsclient"), run_script("ovms.py", "grpc"), DEFAULT_CALLS),
    Foreign("ovmsclient, REST", python("ovmsclient"), run_script("ovms.py", "rest"), ("metadata", "status", "columns")),
    Foreign(
        "min-tfs-client",
        python("min-tfs-client", "protobuf<3.21", "numpy<2", "setuptools<81"),
        run_script("min_tfs.py"),
        ("uint8",),
    ),
    *(Foreign(name, WEB, run_script("web.py", name), REST_CALLS) for name in ("requests", "httpx", "aiohttp")),
    Foreign("curl", found("curl"), ask_curl, REST_CALLS),
    Foreign("wrk", found("wrk", "wrk"), ask_wrk, ("rows", "keep-alive")),
    Foreign("ab", found("ab", "apache2-utils"), ask_ab, ("rows", "keep-alive")),
    Foreign("h2load", found("h2load", "nghttp2-client"), ask_h2load, ("uint8", "rows", "keep-alive")),
)
