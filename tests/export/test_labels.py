"""Names of classes in the manifest."""

import pathlib

import pytest
from featserve_export.errors import InvalidOptionError
from featserve_export.labels import imagenet_labels, name_outputs, read_labels


def test_imagenets_names_are_those_of_its_classes() -> None:
    names = imagenet_labels()
    assert len(names) == len(set(names)) == 1000 and all(names)
    # Known of these classes: the photos `chelsea` and `coffee` of scikit-image are of 285 and 967.
    assert [names[index] for index in (0, 207, 285, 967, 999)] == [
        "tench",
        "golden retriever",
        "Egyptian cat",
        "espresso",
        "toilet tissue",
    ]


@pytest.mark.parametrize(
    ("backbone", "weights", "named"),
    [
        ("efficientnet_lite0", "imagenet", ["predictions"]),
        ("EfficientNetB0", "b0.weights.h5", ["predictions"]),
        ("vgg16", "random", []),
        ("own.keras", "imagenet", []),
    ],
)
def test_a_backbones_classifier_has_imagenets_names(backbone: str, weights: str, named: list[str]) -> None:
    shapes = {"top_activation": (7, 7, 1280), "predictions": (1000,), "features": (1000,)}
    assert name_outputs(shapes, backbone, weights, None) == dict.fromkeys(named, imagenet_labels())


def test_names_of_ones_own_go_to_the_outputs_of_as_many_classes(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("cat\r\ndog \nüber\n", encoding="utf-8")
    assert read_labels(path) == ["cat", "dog", "über"]
    shapes = {"maps": (3, 3, 3), "two": (2,), "three": (3,)}
    assert name_outputs(shapes, "own.keras", "imagenet", path) == {"three": ["cat", "dog", "über"]}
    with pytest.raises(InvalidOptionError, match=r"an output of 3 classes.*received maps \(3×3×3\), two \(2\)"):
        name_outputs({"maps": (3, 3, 3), "two": (2,)}, "own.keras", "imagenet", path)


@pytest.mark.parametrize(("text", "told"), [("cat\n\ndog\n", "line 2 is empty"), ("", "line 1 is empty")])
def test_lines_without_a_name_are_refused(tmp_path: pathlib.Path, text: str, told: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(text)
    with pytest.raises(InvalidOptionError, match=told):
        read_labels(path)
    with pytest.raises(InvalidOptionError, match="cannot be read"):
        read_labels(tmp_path / "none")
