"""featserve compare, with servers of the tests and files of vectors."""

import json
import pathlib
from collections.abc import Iterator

import numpy as np
import pytest
from featserve_client.cli.main import main
from featserve_client.compare.search import Search
from featserve_client.compare.statistics import estimate

from ..command import featserve
from ..fake_server import MANIFEST, FakeServer, Refusal, features, grpc, jpeg, signatures

PHOTOS = 120
SIZE = 32


def vectors(seed: int = 0, photos: int = PHOTOS, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(photos, size)).astype(np.float32)


def write(path: pathlib.Path, array: np.ndarray, names: list[str] | None = None, **more: np.ndarray) -> pathlib.Path:
    names = names or [f"p{row:06}.jpg" for row in range(len(array))]
    np.savez(path, path=np.array(names), top=array, **more)
    return path


def compare(*arguments: object) -> int:
    return main(["compare", "--quiet", *map(str, arguments)])


@pytest.fixture
def a(tmp_path: pathlib.Path) -> pathlib.Path:
    return write(tmp_path / "a.npz", vectors())


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(PHOTOS):
        (folder / f"p{seed:03}.jpg").write_bytes(jpeg(seed))
    return folder


@pytest.fixture
def other() -> Iterator[FakeServer]:
    fake = FakeServer(version=2).start()
    yield fake
    fake.stop()


@pytest.mark.parametrize("exact", [100_000, 10])
def test_a_search_reports_as_many_steps_as_it_announced(exact: int) -> None:
    if exact < PHOTOS:
        pytest.importorskip("usearch")
    steps: list[int] = []
    search = Search(exact_photos=exact, report=steps.append)
    first, second = vectors(), vectors(1)
    index = search.index(first)
    own = np.arange(len(first))
    before = len(steps)
    for queries in (first, second):
        index.neighbors(queries, 10, own)
    search.index(second).neighbors(second, 10, own)
    assert sum(steps) == search.steps(len(first))
    assert len(steps) > before


def test_equal_vectors_may_be_mixed(
    a: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(a, write(tmp_path / "b.npz", vectors())) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"vectors may be mixed: top: all {PHOTOS} vectors are identical, bit for bit"


def test_nearly_equal_vectors_may_be_mixed(
    a: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    b = write(tmp_path / "b.npz", vectors() + 1e-4 * vectors(1))
    assert compare(a, b, "--json") == 0
    (layer,) = json.loads(capsys.readouterr().out)["layers"]
    assert layer["mixed"]["at_10"]["value"] > 0.99 and layer["search"] == "exact search"
    assert layer["largest_distance"] < 1e-3
    assert 0.9999 < layer["cosine"]["minimum"] < 1 and abs(layer["norm_ratio"]["median"] - 1) < 1e-3


def test_the_numbers_are_those_of_their_definitions(
    a: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = vectors(), vectors() + 0.3 * vectors(1)
    assert compare(a, write(tmp_path / "b.npz", second), "--json") == 1
    (layer,) = json.loads(capsys.readouterr().out)["layers"]
    one, two = (array / np.linalg.norm(array, axis=1, keepdims=True) for array in (first, second))

    def nearest(queries: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
        scores = queries @ index.T
        np.fill_diagonal(scores, -np.inf)
        return np.argsort(-scores, axis=1)[:, :count]

    for name, queries, index in (("separate", two, two), ("mixed", two, one)):
        for count in (1, 10):
            pairs = zip(nearest(one, one, count), nearest(queries, index, count), strict=True)
            expected = np.mean([len(set(x) & set(y)) / count for x, y in pairs])
            assert layer[name][f"at_{count}"]["value"] == pytest.approx(expected, abs=1e-9)
    cosines = np.sum(one * two, axis=1)
    assert layer["cosine"]["minimum"] == pytest.approx(cosines.min(), abs=1e-6)
    assert layer["cosine"]["first_percent"] == pytest.approx(np.quantile(cosines, 0.01), abs=1e-6)
    ratios = np.linalg.norm(second, axis=1) / np.linalg.norm(first, axis=1)
    assert layer["norm_ratio"]["mean"] == pytest.approx(ratios.mean(), rel=1e-6)
    kept = [len(set(x) & set(y)) for x, y in zip(nearest(one, one, 10), nearest(two, one, 10), strict=True)]
    order = sorted(range(PHOTOS), key=lambda row: (kept[row], cosines[row]))
    assert [each["photo"] for each in layer["changed"]] == [f"p{row:06}.jpg" for row in order[:8]]


def test_a_rotated_space_is_computed_again(
    a: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rotation = np.linalg.qr(vectors(3, SIZE))[0]
    assert compare(a, write(tmp_path / "b.npz", vectors() @ rotation), "--json") == 1
    found = json.loads(capsys.readouterr().out)
    (layer,) = found["layers"]
    assert layer["separate"]["at_10"]["value"] == 1 and layer["mixed"]["at_10"]["value"] < 0.3
    assert found["verdict"]["sentence"].startswith("compute them again: top: recall@10 0.")


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_written_files_and_their_server_agree(
    server: FakeServer, photos: pathlib.Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    output = photos.parent / f"vectors{suffix}"
    assert featserve(server, "embed", photos, "--layer", "early", "--output", output, "--quiet") == 0
    assert featserve(server, "extract", photos, "--output", photos.parent / f"all{suffix}", "--quiet") == 0
    capsys.readouterr()
    assert compare(output, f"{server.target}/toy", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["other_layers"] == {"A": [], "B": ["late"]}
    assert found["layers"][0]["norm_ratio"] is None  # embed brings vectors to length 1
    assert compare(photos.parent / f"all{suffix}", f"{server.target}/toy@1") == 0
    out = capsys.readouterr().out
    assert "norm ratio B/A    min 1.00000" in out and "early" in out and "late" in out


def test_unreadable_photos_are_left_out_on_both_sides(
    server: FakeServer, other: FakeServer, photos: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "bad.jpg").write_bytes(jpeg(500) + b"broken")
    sides = f"{server.target}/toy@1", f"{other.target}/toy@2"
    assert compare(*sides, "--photos", photos) == 0
    out = capsys.readouterr().out
    assert f"photos  {PHOTOS} compared; left out: 2 without a vector from A (the first: " in out
    assert sum(len(request.inputs["image_bytes"].string_val) for request in other.predicts if request.inputs) == PHOTOS


def test_a_server_that_goes_away_ends_it(
    server: FakeServer,
    other: FakeServer,
    photos: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("featserve_client.core.stream.PATIENCE_S", 0.2)

    def gone(request: object, count: int) -> None:
        if count > 3:
            raise Refusal(grpc.StatusCode.UNAVAILABLE, "gone")

    other.before = gone
    report = photos.parent / "report.html"
    before = sorted(photos.parent.iterdir())
    assert compare(f"{server.target}/toy", f"{other.target}/toy", "--photos", photos, "--output", report) == 2
    out, err = capsys.readouterr()
    assert out == "" and "gone" in err and other.target in err
    assert sorted(photos.parent.iterdir()) == before


def test_classifiers_are_judged_by_their_top_class(
    server: FakeServer, other: FakeServer, photos: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.manifest = other.manifest = MANIFEST | {"labels": {"late": ["a", "b", "c", "d"]}}
    sides = f"{server.target}/toy", f"{other.target}/toy", "--photos", photos, "--layer", "late"
    other.features = lambda data: {name: value * 2 for name, value in features(data).items()}
    assert compare(*sides) == 0
    out = capsys.readouterr().out
    assert "vectors may be mixed: late: the same top class 1.000 ± 0.031 (brought to length 1: their lengths" in out
    assert "the lengths differ: mix only vectors brought to length 1" in out
    other.features = lambda data: {name: value[::-1] for name, value in features(data).items()}
    assert compare(*sides) == 1
    assert "compute them again: late: the same top class 0." in capsys.readouterr().out


def test_other_layers_of_other_sizes_never_mix(
    server: FakeServer, other: FakeServer, photos: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other.signatures = signatures({"deep": (6,)})
    other.manifest = MANIFEST | {"layers": {"deep": {"shape": [6]}}}
    other.features = lambda data: {"deep": np.append(features(data)["late"], (1, 2)).astype(np.float32)}
    assert compare(f"{server.target}/toy", f"{other.target}/toy", "--photos", photos) == 1
    out = capsys.readouterr().out
    assert "late ↔ deep: vectors of 4 and of 6 numbers never mix; each searched by itself, " in out
    assert "not compared, in A alone: early" in out
    assert compare(f"{server.target}/toy", f"{other.target}/toy", "--photos", photos, "--layer", "late") == 2
    assert "has no layer 'late'; it has deep (--layer A=B" in capsys.readouterr().err


def test_too_few_photos_are_no_statement(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path / "a.npz", vectors(photos=20))
    b = write(tmp_path / "b.npz", vectors(photos=20) * (1 + 1e-6 * vectors(1, 20)))
    assert compare(a, b) == 2
    assert "no statement: top: 20 photos are too few, at least 101 are needed" in capsys.readouterr().out
    assert compare(a, b, "--min-recall-10", "0.999") == 2
    assert "at least 3,688 are needed" in capsys.readouterr().out
    assert compare(write(tmp_path / "c.npz", vectors(photos=3)), write(tmp_path / "d.npz", vectors(1, 3))) == 2
    assert "neighbors         too few photos" in capsys.readouterr().out


def test_a_value_near_its_threshold_says_how_many_photos_decide(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write(tmp_path / "a.npz", vectors(photos=500))
    b = write(tmp_path / "b.npz", vectors(photos=500) + 0.1 * vectors(1, 500))
    compare(a, b, "--json")
    value = json.loads(capsys.readouterr().out)["layers"][0]["mixed"]["at_10"]["value"]
    assert 0.8 < value < 0.98
    assert compare(a, b, "--min-recall-1", 0.2, "--min-recall-10", round(value - 0.002, 4)) == 2
    out = capsys.readouterr().out
    assert f"no statement: top: recall@10 {value:.3f} ± " in out and "is too near to" in out
    assert "with 500 photos: about " in out


def test_files_of_other_photos(a: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"p{row:06}.jpg" for row in range(5, PHOTOS)] + ["x.jpg", "y.jpg"]
    order = np.random.default_rng(0).permutation(len(names))
    array = np.concatenate([vectors()[5:], vectors(7, 2)])
    b = write(tmp_path / "b.npz", array[order], [names[place] for place in order])
    assert compare(a, b) == 0
    assert f"{PHOTOS - 5} compared; left out: 2 not in {a}, 5 not in {b}" in capsys.readouterr().out
    none = write(tmp_path / "c.npz", vectors(), [f"q{row}" for row in range(PHOTOS)])
    assert compare(a, none) == 2
    assert f"the sides share no photo, by the names of their files: {a} has p000000.jpg" in capsys.readouterr().err
    twice = write(tmp_path / "d.npz", vectors(photos=2), ["p.jpg", "./p.jpg"])
    assert compare(a, twice) == 2
    assert "has more than one row of p.jpg" in capsys.readouterr().err


def test_photos_of_other_bytes_are_left_out(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    hashes = np.array([f"{row:064}" for row in range(PHOTOS)])
    a = write(tmp_path / "a.npz", vectors(), sha256=hashes)
    changed, other_hashes = vectors(), hashes.copy()
    changed[:3], other_hashes[:3] = 9, "f" * 64
    assert compare(a, write(tmp_path / "b.npz", changed, sha256=other_hashes)) == 0
    assert f"{PHOTOS - 3} compared; left out: 3 of other bytes in A than in B" in capsys.readouterr().out


def test_nan_and_infinity(a: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = vectors()
    bad[3, 4], bad[5, 6] = np.nan, np.inf
    b = write(tmp_path / "b.npz", bad)
    assert compare(b, b) == 0
    assert f"{PHOTOS - 2} compared; left out: 2 with NaN or infinity" in capsys.readouterr().out
    assert compare(a, b) == 1
    assert "compute them again: top: vectors with NaN or infinity, 2 in B alone" in capsys.readouterr().out
    assert compare(a, write(tmp_path / "c.npz", np.full_like(bad, np.nan))) == 2
    assert "no photo has finite numbers on both sides" in capsys.readouterr().err


def test_duplicates_and_zeros_do_not_count_as_changes(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = vectors(photos=4)
    few[0] = 0
    array = np.repeat(few, PHOTOS // 4, axis=0)
    b = array * np.float32(1 + 1e-7) + np.where(array, 1e-9 * vectors(1), 0).astype(np.float32)
    assert compare(write(tmp_path / "a.npz", array), write(tmp_path / "b.npz", b), "--json") == 0
    (layer,) = json.loads(capsys.readouterr().out)["layers"]
    assert layer["mixed"]["at_10"]["value"] == layer["mixed"]["at_1"]["value"] == 1
    assert layer["cosine"]["minimum"] == pytest.approx(1, abs=1e-6)


def test_usearch_finds_what_the_exact_search_finds(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("usearch")
    a = write(tmp_path / "a.npz", vectors(photos=1500))
    b = write(tmp_path / "b.npz", vectors(photos=1500) + 0.1 * vectors(1, 1500))
    values = []
    for limit in (100_000, 1000):
        compare(a, b, "--json", "--exact-photos", limit)
        (layer,) = json.loads(capsys.readouterr().out)["layers"]
        values.append([layer[name][at]["value"] for name in ("separate", "mixed") for at in ("at_1", "at_10")])
    assert layer["search"].startswith("approximate search by usearch, which finds ")
    np.testing.assert_allclose(*values, atol=0.02)


def test_the_page_has_pictures_and_escaped_names(
    server: FakeServer, other: FakeServer, photos: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = photos.rename(photos.parent / "<b>&")
    other.features = lambda data: {name: value[::-1] for name, value in features(data).items()}
    page = photos.parent / "report.html"
    assert compare(f"{server.target}/toy", f"{other.target}/toy", "--photos", photos, "--output", page) == 1
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 8 * 11 and 'src="http' not in text
    assert "/<b>&/" not in text and "/&lt;b&gt;&amp;/p" in text and "compute them again" in text
    assert capsys.readouterr().out.splitlines()[-1] == str(page)
    assert not list(page.parent.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["x", "{a}"], "'x' names nothing to compare; expected HOST:PORT/MODEL"),
        (["localhost:1/m@v", "{a}"], "the version 'v' is no number; a label is written"),
        (["localhost:99999/m", "{a}"], "is not HOST:PORT"),
        (["no.npz", "{a}"], "no.npz: no such file"),
        (["x.h5", "{a}"], "only .npz and .parquet can be compared"),
        (["{tmp}", "{a}"], "expected an exported version, MODEL_ROOT/NAME/VERSION"),
        (["localhost:1/m", "localhost:1/n"], "--photos is needed"),
        (["{a}", "{a}", "--min-recall-10", "1"], "--min-recall-10 must be above 0 and below 1, not 1.0"),
        (["{a}", "{a}", "--layer", "no"], "has no layer 'no'; it has top"),
        (["{a}", "{a}", "--output", "x.pdf"], "unknown kind of picture; expected one of .html"),
        (["{a}", "{a}", "--output", "{tmp}/no/x.html"], "no is no directory"),
        (["{a}", "{a}", "--exact-photos", "0"], "--exact-photos must be at least 1"),
        (["{broken}", "{a}"], "broken.npz cannot be read"),
        (["{short}", "{a}"], "short.npz: layer 'top' has 2 rows; 'path' has 1"),
    ],
)
def test_bad_input_is_told(
    a: pathlib.Path,
    tmp_path: pathlib.Path,
    arguments: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken, short = tmp_path / "broken.npz", write(tmp_path / "short.npz", vectors(photos=2), ["p.jpg"])
    broken.write_bytes(a.read_bytes()[:500])
    places = {"a": a, "tmp": tmp_path, "broken": broken, "short": short}
    assert compare(*(argument.format(**places) for argument in arguments)) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "text"),
    [(np.ones(1000), "1.000 ± 0.004"), (np.zeros(200), "0.000 ± 0.018"), (np.ones(100_000), "1.00000 ± 0.00004")],
)
def test_an_interval_is_never_surer_than_its_sample(values: np.ndarray, text: str) -> None:
    assert str(estimate(values)) == text


def test_an_interval_is_that_of_the_normal_distribution_where_it_holds() -> None:
    found = estimate(np.repeat([0.0, 1.0], [4000, 6000]))
    expected = 1.96 * (0.6 * 0.4 / 10_000) ** 0.5
    assert found.value == 0.6 and found.margin == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(("wrong", "ends"), [(2, (0.9303, 0.9976)), (5, (0.8882, 0.9837)), (50, (0.4040, 0.6056))])
def test_an_interval_of_a_share_is_that_of_clopper_and_pearson(wrong: int, ends: tuple[float, float]) -> None:
    found = estimate(np.repeat([0.0, 1.0], [wrong, 101 - wrong]))  # the ends: scipy's binomtest, method "exact"
    assert (found.low, found.high) == pytest.approx(ends, abs=2e-3)


def test_an_interval_holds_what_few_photos_do_not_show() -> None:
    rng = np.random.default_rng(0)
    for share in (0.95, 0.98):
        found = [estimate((rng.random(101) < share).astype(float)) for _ in range(400)]
        assert np.mean([each.low > share for each in found]) < 0.04
        assert np.mean([each.high < share for each in found]) < 0.04


def test_no_photo_is_shown_for_what_rounding_does(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path / "a.npz", vectors())
    b, page = write(tmp_path / "b.npz", vectors() * (1 + 1e-7 * vectors(1))), tmp_path / "page.html"
    assert compare(a, b, "--output", page) == 0
    out = capsys.readouterr().out
    assert "differ by rounding alone" in out and "changed most" not in out and "<svg" not in page.read_text()


@pytest.mark.long
def test_two_versions_of_one_export_differ_by_rounding_at_most(
    tmp_path: pathlib.Path, photos: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from featserve_export import Batching, ExportOptions, export_backbone, rebatch

    first = export_backbone(ExportOptions("efficientnet_lite0", model_root=tmp_path / "models")).path
    other = Batching(
        num_batch_threads=1,
        max_batch_size=3,
        batch_timeout_micros=0,
        max_enqueued_batches=256,
        allowed_batch_sizes=(1, 3),
    )
    assert compare(first, rebatch(first, other), "--photos", photos, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    (layer,) = found["layers"]
    assert found["photos"] == PHOTOS and layer["mixed"]["at_10"]["value"] > 0.99
    # A photo's last digits depend on the batch that it is computed in.
    assert layer["largest_distance"] < 1e-5
