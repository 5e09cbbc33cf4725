"""The examples in the docstrings, run."""

import doctest
import functools

import featserve_export
import pytest
from featserve_export import ExportOptions
from featserve_export.batching import default_batching

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
ENTRIES = {name: getattr(featserve_export, name) for name in featserve_export.__all__}
EXAMPLES = [
    test
    for name, entry in ENTRIES.items()
    for test in doctest.DocTestFinder(exclude_empty=False).find(entry, name)
    if test.examples
]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The options of an export that several examples read."""
    folder = tmp_path_factory.mktemp("small")
    return ExportOptions("mobilenet", alpha=0.25, weights="random", image_size=(32, 32), model_root=folder)


@functools.cache
def export_once(options):
    return featserve_export.export_backbone(options)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_gives_what_it_says(example, small, tmp_path):
    example.globs = {
        **ENTRIES,
        "export_backbone": export_once,
        "folder": tmp_path,
        "small": small,
        "default_batching": default_batching,
    }
    told: list[str] = []
    failed, _ = doctest.DocTestRunner().run(example, out=told.append)
    assert not failed, "".join(told)


def test_every_public_entry_has_an_example():
    errors = {name for name, entry in ENTRIES.items() if isinstance(entry, type) and issubclass(entry, Exception)}
    assert {example.name for example in EXAMPLES} >= ENTRIES.keys() - errors
    assert featserve_export.__all__ == sorted(featserve_export.__all__)
