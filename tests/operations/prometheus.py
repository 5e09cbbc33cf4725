"""A Prometheus of our own, with the kit's configuration, and what it answers."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from ..waiting import eventually

CONFIG = Path(__file__).parents[2] / "serving" / "docker" / "prometheus" / "prometheus.yml"
#: Labels and value of a series.
Sample = tuple[dict[str, str], float]


class Prometheus:
    """Scrapes each second what the kit's configuration scrapes, at another address, and one job more.

    Args:
        folder: for its configuration and data.
        port: where it listens.
        server: `HOST:PORT` of the server's REST API.
        caller: `HOST:PORT` of the metrics of a caller.
    """

    def __init__(self, folder: Path, port: int, server: str, caller: str) -> None:
        config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(CONFIG.parent / name) for name in config["rule_files"]]
        (job,) = (job for job in config["scrape_configs"] if job["job_name"] == "featserve")
        job["static_configs"] = [{"targets": [server]}]
        config["scrape_configs"].append({"job_name": "caller", "static_configs": [{"targets": [caller]}]})
        file = folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        self._url = f"http://127.0.0.1:{port}"
        self._log = (folder / "prometheus.log").open("w")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        eventually(self._ready)

    def query(self, expression: str, at: float | None = None) -> list[Sample]:
        """What an expression is now, or was at a moment of `time.time`; values that are no number are left out."""
        moment = {} if at is None else {"time": f"{at:.3f}"}
        answer = self._get("/api/v1/query", query=expression, **moment)["data"]["result"]
        samples = [(each["metric"], float(each["value"][1])) for each in answer]
        return [(labels, value) for labels, value in samples if value == value]

    def total(self, expression: str, at: float | None = None) -> float:
        """The sum over an expression's series."""
        return sum(value for _, value in self.query(expression, at))

    def rules(self) -> dict[str, str]:
        """Each alarm with `ok` or the error of its last evaluation."""
        groups = self._get("/api/v1/rules")["data"]["groups"]
        return {rule["name"]: rule.get("lastError") or rule["health"] for group in groups for rule in group["rules"]}

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait(30)
        self._log.close()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            assert self._process.poll() is None, Path(self._log.name).read_text()
            return False

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self._url}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from error
