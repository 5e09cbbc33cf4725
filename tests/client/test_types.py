"""The public signatures, pinned: a change here is a change for every caller."""

import collections.abc
import inspect
import typing

import featserve_client
import pytest
from featserve_client import AsyncFeatureClient, FeatureClient

METHODS = {
    "classify": "(images, top=5, *, layer=None, timeout_s=None)",
    "embed": "(images, layer=None, *, normalize=True, timeout_s=None)",
    "extract": "(images, layers=None, *, timeout_s=None)",
    "extract_iter": "(images, layers=None, *, concurrency=8, ordered=True, on_error='raise', timeout_s=None)",
    "metadata": "(*, timeout_s=None)",
    "pinned": "(version)",
    "predict": "(inputs, *, signature='serving_default', output_filter=(), timeout_s=None)",
    "status": "(*, timeout_s=None)",
    "wait_until_ready": "(timeout_s)",
}
CONSTRUCTOR = (
    "(target=None, *, model=None, version=None, label=None, timeout_s=60.0, wait_for_ready=False, "
    "decode='server', concurrency=4, limits=None, retry=None, keepalive=None, tls=None, token=None, "
    "compression='none', metadata=None, interceptors=())"
)


def untyped(call: typing.Any) -> str:
    signature = inspect.signature(call)
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values() if p.name != "self"]
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def hints(call: typing.Any) -> dict[str, typing.Any]:
    # PILImage is imported for type checkers alone.
    return typing.get_type_hints(call, localns={"PILImage": object})


@pytest.mark.parametrize("kind", [FeatureClient, AsyncFeatureClient])
def test_names_parameters_and_defaults(kind: type) -> None:
    assert untyped(kind) == CONSTRUCTOR
    for name, expected in METHODS.items():
        assert untyped(getattr(kind, name)) == expected, name


def test_sync_and_async_are_typed_alike() -> None:
    for name in METHODS:
        sync, other = hints(getattr(FeatureClient, name)), hints(getattr(AsyncFeatureClient, name))
        if name == "pinned":
            assert (sync.pop("return"), other.pop("return")) == (FeatureClient, AsyncFeatureClient)
        if name == "extract_iter":
            assert typing.get_origin(sync.pop("return")) is collections.abc.Generator
            assert typing.get_origin(other.pop("return")) is collections.abc.AsyncGenerator
            images = set(typing.get_args(other.pop("images"))) - set(typing.get_args(sync.pop("images")))
            assert [typing.get_origin(kind) for kind in images] == [collections.abc.AsyncIterable]
        assert sync == other, name


def test_the_other_public_names_are_the_same() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert (
        public(FeatureClient)
        == public(AsyncFeatureClient)
        == {*METHODS, "close", "decode", "limits", "local", "model", "pinned", "target", "uses_tls"}
    )


def test_everything_public_is_annotated() -> None:
    for name in featserve_client.__all__:
        kind = getattr(featserve_client, name)
        members = [member for member in vars(kind).values() if inspect.isfunction(member)]
        for member in members:
            if member.__name__.startswith("_") and member.__name__ != "__init__":
                continue
            parameters = list(inspect.signature(member).parameters.values())[1:]
            missing = [p.name for p in parameters if p.annotation is p.empty]
            assert not missing, f"{name}.{member.__name__}: {missing}"
