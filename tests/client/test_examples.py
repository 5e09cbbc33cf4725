"""The examples in the docstrings, run."""

import ast
import asyncio
import doctest
import inspect
import pathlib
from collections.abc import Iterator
from types import SimpleNamespace

import featserve_client
import numpy as np
import pytest
from featserve_client import FeatserveError, FeatureClient, base_client, integrations, interceptors

from .fake_server import MANIFEST, FakeServer, jpeg, signatures

INTERCEPTORS = ("MetricsInterceptor", "OpenTelemetryInterceptor")
ENTRIES = {name: getattr(featserve_client, name) for name in featserve_client.__all__} | {
    name: getattr(interceptors, name) for name in INTERCEPTORS
}
EXAMPLES = [
    test
    for name, entry in ENTRIES.items()
    for test in doctest.DocTestFinder(exclude_empty=False).find(entry, name)
    if test.examples
]
MODULES = sorted(pathlib.Path(integrations.__file__).parent.glob("[a-z]*.py"))


@pytest.fixture(scope="module")
def lite0() -> Iterator[FakeServer]:
    """A server of the model that the examples name."""
    layers = {"top_activation": (7, 7, 1280)}
    preprocessing = MANIFEST["preprocessing"] | {"interpolation": "bicubic"}
    server = FakeServer(
        model="efficientnet_lite0",
        signatures=signatures(layers),
        manifest=MANIFEST | {"layers": {"top_activation": {"shape": [7, 7, 1280]}}, "preprocessing": preprocessing},
        features=lambda image: {"top_activation": np.ones((7, 7, 1280), np.float32)},
    ).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def classifier() -> Iterator[FeatureClient]:
    """A client of a model that names classes."""
    names = ["tabby", "Egyptian cat", "tench"]
    server = FakeServer(
        model="lite0_classes",
        signatures=signatures({"predictions": (3,)}),
        manifest=MANIFEST | {"layers": {"predictions": {"shape": [3]}}, "labels": {"predictions": names}},
        features=lambda image: {"predictions": np.array([0.2, 0.7, 0.1], np.float32)},
    ).start()
    with FeatureClient(server.target, model="lite0_classes", timeout_s=60) as client:
        yield client
    server.stop()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_gives_what_it_says(
    lite0: FakeServer,
    classifier: FeatureClient,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    example: doctest.DocTest,
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("cat.jpg", "dog.jpg")):
        (tmp_path / name).write_bytes(jpeg(seed))
    version = tmp_path / "build" / "models" / "efficientnet_lite0" / "1"
    version.mkdir(parents=True)
    (version / "saved_model.pb").touch()
    # The server of a version that is served on this machine: test_local_server.py has the real one.
    monkeypatch.setattr(base_client, "LocalServer", lambda _: SimpleNamespace(address=lite0.target, close=lambda: None))
    for each in example.examples:
        each.source = each.source.replace("localhost:8500", lite0.target)
    with FeatureClient(lite0.target, model="efficientnet_lite0", timeout_s=60) as client:
        example.globs = {
            **ENTRIES,
            "client": client,
            "classifier": classifier,
            "np": np,
            "asyncio": asyncio,
            "pathlib": pathlib,
        }
        told: list[str] = []
        failed, _ = doctest.DocTestRunner().run(example, out=told.append)
    assert not failed, "".join(told)


def test_every_public_entry_has_an_example() -> None:
    names = {example.name for example in EXAMPLES}
    methods = {
        f"FeatureClient.{name}"
        for name, member in vars(FeatureClient).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }
    # The errors have one for all, at their base.
    errors = {
        name for name, entry in ENTRIES.items() if issubclass(entry, FeatserveError) and entry is not FeatserveError
    }
    assert names >= (ENTRIES.keys() | methods) - errors - {"FeatureClient.close"}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_an_integrations_example_is_python(module: pathlib.Path) -> None:
    examples = doctest.DocTestParser().get_examples(ast.get_docstring(ast.parse(module.read_text())) or "")
    assert examples
    compile("".join(each.source for each in examples), module.name, "exec")
