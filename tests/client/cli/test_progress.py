"""What long work shows of itself where there is no terminal."""

import types

import pytest
from featserve_client.bulk.parts import Progress
from featserve_client.cli import progress
from featserve_client.cli.progress import Reporter


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    # The module's clock alone: event loops of servers in this process would wait by another for hours.
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_each_kind_of_work_has_a_rate_of_its_own(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter(quiet=False) as reporter:
        reporter.update(Progress(done=0, failed=0, total=100))
        clock[0] = 10.0
        reporter.update(Progress(done=50, failed=1, total=100))
        clock[0] = 50.0
        reporter.update(Progress(done=0, failed=0, total=300, what="searches"))
        clock[0] = 60.0
        reporter.update(Progress(done=30, failed=0, total=300, what="searches"))
    assert capsys.readouterr().err.splitlines() == [
        "50/100 images, 5.0 images/s, 1 failed, 10 s left",
        "0/300 searches, 0.0 searches/s",
        "30/300 searches, 3.0 searches/s, 90 s left",
    ]


def test_work_that_goes_on_says_after_what(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(quiet=False).update(Progress(done=7, failed=0, total=9))
    assert capsys.readouterr().err == "going on after 7 images\n"
    Reporter(quiet=True).update(Progress(done=7, failed=0, total=9))
    assert capsys.readouterr().err == ""
