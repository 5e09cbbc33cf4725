"""How the tables are made: turns, ratios, and rows and sections that fail."""

from pathlib import Path

import pytest
from featserve_load import bench, turns
from featserve_load.errors import LoadError
from featserve_load.sections import native


def test_a_section_replaces_only_itself():
    text = bench.replaced("", "Cold start", "cold, first")
    text = bench.replaced(text, "Served against in process", "served\n\n| a |")
    text = bench.replaced(text, "Cold start", "cold, again")
    assert text.count("## ") == 2
    assert text.index("served\n\n| a |") < text.index("cold, again")
    assert "cold, first" not in text
    assert bench.replaced(text, "Cold start", "cold, again") == text


def test_a_ratio_is_that_of_the_round_in_the_middle():
    found = {"a": [(10.0,), (20.0,), (10.0,)], "b": [(9.0,), (20.0,), (12.0,)]}
    assert turns.pair_of(found, "a", "b").text == "20.0 | 20.0 | 1.00 | 0.90–1.20"
    with pytest.raises(LoadError, match="b failed"):
        turns.pair_of({"a": [(1.0,)]}, "a", "b")


def test_a_case_that_fails_costs_no_other():
    def fails():
        raise LoadError("the server died")

    order = []

    def works(name):
        return lambda: order.append(name) or (1.0,)

    found = turns.turns(2, {"a": works("a"), "b": fails, "c": works("c")})
    assert {name: len(rows) for name, rows in found.items()} == {"a": 2, "c": 2}
    assert order == ["a", "c", "c", "a"]
    with pytest.raises(LoadError):
        turns.turns(1, {"b": fails})
    lines = []
    with turns.row(lines, "| vgg16 |", 2):
        fails()
    assert lines == ["| vgg16 | not measured | |"]


def test_a_slow_model_is_measured_for_longer():
    assert turns.Length(4.0, 32, 1, 500.0).seconds == 4.0
    assert turns.Length(4.0, 32, 1, 8.0).seconds == pytest.approx(12.0)
    assert turns.Length(4.0, 1, 16, 5.0).seconds == pytest.approx(19.2)


def test_sections_that_fail_or_cannot_be_measured_here_leave_the_others(tmp_path, monkeypatch):
    def broken(_):
        raise RuntimeError("unforeseen")

    sections = {
        "cold": ("Cold start", broken),
        "native": ("Native", lambda options: native.native(options)),
        "wire": ("Ways to send an image", lambda _: ["| a |"]),
    }
    monkeypatch.setattr(bench, "SECTIONS", sections)
    monkeypatch.setattr(native, "exported", lambda *_: Path("nowhere"))
    out = tmp_path / "RESULTS.md"
    asked = ["--sections", "cold,native,wire", "--native", str(tmp_path / "absent"), "--out", str(out)]
    assert bench.main(asked) == 1
    text = out.read_text()
    assert "| a |" in text and "Not on this machine" in text and "absent is no program" in text
    assert "Cold start" not in text


def test_tensorflow_serving_is_found_by_address():
    with native._native("127.0.0.1:8500", Path("exports/m")) as target:
        assert target == "127.0.0.1:8500"
