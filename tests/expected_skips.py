"""With `CI=true` a test that skips for a reason that is not listed here fails the run."""

import os
import re
from collections.abc import Iterator

import pytest

#: Why a test may skip: what a machine may lack. The reasons are regular expressions for the whole text.
EXPECTED = (
    r"this CPU has no VNNI",
    r"no MobileNet weights in KERAS_HOME",
    r"no \S+\.h5",
    r"(pyspark|apache_beam) is not installed",
    r"(kubectl|curl|grpcurl|promtool|prometheus|tensorflow_model_server) is not on PATH",
    r"(node|npm|wrk|ab|h2load) is not on PATH.*|\S+ cannot be installed: (.|\n)*",
    r"npm cannot install @grpc/grpc-js protobufjs",
    r"ip is not on PATH.*|no network namespaces.*|no bridge between network namespaces.*",
    r"iptables is not on PATH.*|no packets can be dropped at random: .*",
    r"no container engine: .*",
    r"no Compose.*",
    r"no limits: rootless podman.*",
    r"no chromium on PATH: apt-get install chromium",
)


def unexpected_skips(reports: list) -> Iterator[str]:
    """The tests and files among reports of skips that had no reason that is expected."""
    for report in reports:
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not any(re.fullmatch(expected, reason) for expected in EXPECTED):
            yield f"{report.nodeid}: {reason}"


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the run, in the process that reports."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or os.environ.get("CI") != "true" or hasattr(session.config, "workerinput"):
        return
    found = list(unexpected_skips(terminal.stats.get("skipped", [])))
    if found and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    for skip in found:
        terminal.write_line(f"unexpected skip: {skip}", red=True)
