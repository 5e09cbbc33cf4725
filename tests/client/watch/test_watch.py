"""Watching servers of the tests: what is found of each, and what becomes of it when they change."""

from __future__ import annotations

import json
import pathlib
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from featserve_client import FeatureClient, OutputError
from featserve_client.watch.closeness import Sample, sample_of
from featserve_client.watch.pace import SHARE, Pace
from featserve_client.watch.photo import canary_photo
from featserve_client.watch.references import References
from featserve_client.watch.server import Finding, describe
from featserve_client.watch.watch import Watch
from featserve_client.wire import serving_pb2 as wire

from ...waiting import eventually
from ..fake_server import MANIFEST, FakeServer, Refusal, features, grpc
from .golden_server import PICTURES, carry_golden, other_features, swap

PHOTO = canary_photo(None)


def make_client(address: str, target: str, model: str) -> FeatureClient:
    return FeatureClient(address, model=model, timeout_s=20)


def watching(*servers: FakeServer, model: str = "toy", references: References | None = None, **options) -> Watch:
    settings = {"references": references or References(), "photo": PHOTO, "every_s": 60.0, **options}
    return Watch([server.target for server in servers], [model], make_client, **settings)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = carry_golden(FakeServer()).start()
    yield fake
    fake.stop()


@pytest.fixture
def second() -> Iterator[FakeServer]:
    fake = carry_golden(FakeServer()).start()
    yield fake
    fake.stop()


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_a_server_that_answers_as_exported(server: FakeServer) -> None:
    watch = watching(server)
    finding = only(watch.once())
    assert finding.result.passed and finding.last_success is not None
    assert finding.result.cosines == pytest.approx({"early": 1.0, "late": 1.0})
    assert finding.result.against == "golden answers"
    asked = [request.inputs["image_bytes"].string_val[0] for request in server.predicts if request.inputs]
    assert asked == [*PICTURES, PHOTO]
    watch.once()  # the golden answers are asked for once
    assert [request.model_spec.signature_name for request in server.predicts].count("golden") == 1


def test_a_model_that_was_swapped_for_another_of_the_same_name_and_version(server: FakeServer) -> None:
    watch = watching(server)
    good = only(watch.once())
    swap(server)
    bad = only(watch.once())
    assert (
        "another model of the same name and version: weights ffffffffffff instead of 000000000000 " in bad.result.fault
    )
    assert f"as when it was first seen at {server.target}; " in bad.result.fault
    assert "has cosine" in bad.result.fault and min(bad.result.cosines.values()) < 0.99
    assert bad.last_success == good.last_success
    assert "FAILED" in describe(bad)


def test_a_model_that_answers_otherwise_under_the_same_manifest(server: FakeServer) -> None:
    watch = watching(server)
    watch.once()
    server.features = other_features
    fault = only(watch.once()).result.fault
    assert "another model" not in fault and "has cosine -0.9" in fault


def test_a_model_that_is_wrong_from_the_start(server: FakeServer) -> None:
    server.features = other_features
    watch = watching(server)
    assert "has cosine" in only(watch.once()).result.fault
    server.features = features  # a wrong answer to the canary photo was not taken for right
    assert only(watch.once()).result.passed


def test_activations_that_are_longer(server: FakeServer) -> None:
    server.features = lambda data: {layer: values * 1.2 for layer, values in features(data).items()}
    fault = only(watching(server).once()).result.fault
    assert "20% longer or shorter than expected (at most 10%) (the worst of 4)" in fault


def test_an_export_of_older_days_is_held_against_its_first_answer(server: FakeServer) -> None:
    del server.signatures.signature_def["golden"]
    watch = watching(server)
    assert only(watch.once()).result.against == "its first answer"
    assert only(watch.once()).result.passed
    server.features = other_features
    assert only(watch.once()).result.fault.startswith("the canary photo: layer")


def test_servers_of_one_model_are_held_against_each_other(server: FakeServer, second: FakeServer) -> None:
    watch = watching(server)
    watch.once()
    swap(second)
    watch._targets = [server.target, second.target]
    assert {finding.server: finding.result.passed for finding in watch.once()} == {
        server.target: True,
        second.target: False,
    }


def test_servers_that_are_first_seen_in_the_same_moment_are_held_against_each_other(
    server: FakeServer, second: FakeServer
) -> None:
    both = threading.Barrier(2)

    def meet(own):
        def before(request, count):
            if request.inputs and request.inputs["image_bytes"].string_val[0] == PHOTO:
                both.wait(60)
            return own(request, count)

        return before

    swap(second)
    for fake in (server, second):
        del fake.signatures.signature_def["golden"]
        fake.before = meet(fake.before)
    findings = watching(server, second).once()
    assert sorted(finding.result.passed for finding in findings) == [False, True]
    assert "another model" in next(finding.result.fault for finding in findings if not finding.result.passed)


def test_what_was_first_seen_is_remembered(server: FakeServer, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "seen.json"
    assert only(watching(server, references=References(file=file)).once()).result.passed
    written = file.read_bytes()
    assert only(watching(server, references=References(file=file)).once()).result.passed
    assert file.read_bytes() == written
    swap(server)
    assert not only(watching(server, references=References(file=file)).once()).result.passed
    file.write_text(json.dumps({"format": 9, "versions": []}))
    with pytest.raises(OutputError, match="is no file of featserve watch --remember: its format is 9, expected 1"):
        References(file=file)


def exported(folder: pathlib.Path, server: FakeServer) -> pathlib.Path:
    extra = folder / "toy" / "1" / "assets.extra"
    extra.mkdir(parents=True)
    (extra / "manifest.json").write_text(json.dumps(MANIFEST | {"version": 1, "precision": "float32"}))
    arrays = {f"encoded_{row}": np.frombuffer(picture, np.uint8) for row, picture in enumerate(PICTURES)}
    for layer in ("early", "late"):
        arrays[f"encoded:{layer}"] = np.stack([features(picture)[layer] for picture in PICTURES])
    np.savez(extra / "golden.npz", **arrays)
    return extra.parent


def test_an_export_counts_more_than_what_a_server_carries(server: FakeServer, tmp_path: pathlib.Path) -> None:
    references = References([exported(tmp_path, server)])
    assert only(watching(server, references=references).once()).result.passed
    assert "golden" not in {request.model_spec.signature_name for request in server.predicts}
    swap(server)
    fault = only(watching(server, references=References([tmp_path / "toy" / "1"])).once()).result.fault
    assert f"as when it was exported to {tmp_path}" in fault
    with pytest.raises(OutputError, match="is no exported version"):
        References([tmp_path])


def test_a_server_that_goes_away_and_comes_back(server: FakeServer) -> None:
    watch = watching(server)
    good = only(watch.once())
    server.stop()
    gone = only(watch.once())
    assert gone.result.version == 1 and "no server at" in gone.result.fault
    assert (gone.last_success, gone.result.cosines, gone.result.latency_s) == (good.last_success, {}, None)
    server.start()
    assert only(watch.once()).result.passed


def test_a_server_that_comes_back_with_another_model_is_told(server: FakeServer) -> None:
    heard: list[Finding] = []
    watch = watching(server, report=heard.append)
    watch.once()
    server.stop()
    watch.once()
    watch.once()  # nothing new
    swap(server)
    server.start()
    watch.once()
    texts = ["", "no server at", "another model of the same name and version"]
    assert len(heard) == 3 and all(text in finding.result.fault for text, finding in zip(texts, heard, strict=True))


def test_versions_come_and_go(server: FakeServer) -> None:
    watch = watching(server)
    watch.once()
    server.version = 2
    assert only(watch.once()).result.version == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda server: setattr(server, "model", "other"), "model 'toy' at"),
        (lambda server: setattr(server, "manifest", MANIFEST | {"precision": "int3"}), "unknown precision 'int3'"),
        (lambda server: server.signatures.signature_def["encoded"].inputs.clear(), "takes encoded images"),
    ],
)
def test_a_model_that_cannot_be_watched(server: FakeServer, change: Callable[[FakeServer], None], text: str) -> None:
    change(server)
    assert text in only(watching(server).once()).result.fault


def test_golden_answers_that_cannot_be_read(server: FakeServer) -> None:
    golden = server.before

    def broken(request, count):
        answer = golden(request, count)
        if answer is None:
            return None
        parsed = wire.PredictResponse.FromString(answer)
        del parsed.outputs["positions/late"]
        return parsed.SerializeToString()

    server.before = broken
    assert "golden answers of model 'toy' cannot be read" in only(watching(server).once()).result.fault


def test_an_overloaded_server_fails_and_the_watch_goes_on(server: FakeServer) -> None:
    watch = watching(server)
    watch.once()
    good = server.before

    def refuse(request, count):
        raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls")

    server.before = refuse
    finding = only(watch.once())
    assert "is overloaded: too many calls" in finding.result.fault and finding.result.version == 1
    server.before = good
    assert only(watch.once()).result.passed


def test_the_servers_behind_a_name(server: FakeServer, second: FakeServer) -> None:
    behind = [server.target, second.target]
    watch = Watch(
        ["name:8500"],
        ["toy"],
        make_client,
        references=References(),
        photo=PHOTO,
        every_s=60,
        find=lambda target: list(behind),
        forget_s=0.2,
    )
    assert {finding.server for finding in watch.once()} == {server.target, second.target}
    behind.remove(second.target)
    watch.once()
    assert len(watch.findings()) == 2  # for a while
    asked = len(second.predicts)

    def forgotten() -> bool:
        watch.once()
        return [finding.server for finding in watch.findings()] == [server.target]

    eventually(forgotten)
    assert len(second.predicts) == asked and list(watch.costs()) == [server.target]
    behind.append(second.target)
    assert len(watch.once()) == 2


def test_a_watch_runs_until_it_is_stopped(server: FakeServer) -> None:
    heard: list[Finding] = []
    watch = watching(server, every_s=0.05, report=heard.append)
    stop = threading.Event()
    thread = threading.Thread(target=watch.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: len(heard) == 1)
        swap(server)
        eventually(lambda: len(heard) == 2)
    finally:
        stop.set()
        thread.join()
    assert [finding.result.passed for finding in heard] == [True, False]


def test_a_defect_of_the_watch_ends_it(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featserve_client.watch.server.check_model", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        watching(server).once()


def test_a_server_is_asked_for_a_hundredth_of_the_time() -> None:
    pace = Pace(60)
    for seconds in (0.1, 0.6, 3.0, 20.0):
        assert seconds / pace.after(seconds, answered=True) <= SHARE
    assert pace.after(0.1, answered=True) == 60
    assert pace.after(10, answered=False) == 60  # as the last look that it answered
    assert pace.after(0, answered=False) == 60
    assert Pace(60).after(10, answered=False) == 1000


def test_a_sample_of_a_layer() -> None:
    answer = np.random.default_rng(0).normal(size=(1, 20, 20, 16)).astype(np.float32)
    sample = sample_of(answer)
    assert sample.values.shape == (1024,) and sample.compare(answer) == (pytest.approx(1), pytest.approx(0))
    assert sample.compare(-answer)[0] == pytest.approx(-1)
    assert sample.compare(answer * 2)[1] == pytest.approx(1)
    assert np.isnan(sample.compare(answer[:, :2])[0]) and np.isnan(sample.compare(None)[0])
    assert np.isnan(sample.compare(answer * np.nan)[0])
    blank = Sample(values=np.zeros(4, np.float32), positions=None)
    assert blank.compare(np.zeros((1, 4))) == (1, 0) and blank.compare(np.ones((1, 4)))[0] == 0
