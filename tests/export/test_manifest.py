"""The manifest beside the schema that both sides hold to."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest
from featserve_client.model.manifest import Manifest
from featserve_export import manifest as contract

SCHEMA = json.loads((Path(__file__).parents[1] / "contract" / "manifest.schema.json").read_text())


def test_an_export_writes_what_the_schema_says(exported):
    written = json.loads((exported.path / contract.MANIFEST_FILE).read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(written)
    assert written == exported.manifest


def test_the_schema_names_what_the_exporter_may_write():
    required, optional = contract.Manifest.__required_keys__, contract.Manifest.__optional_keys__
    assert set(SCHEMA["required"]) == required
    assert set(SCHEMA["properties"]) == required | optional
    for name, record in (("preprocessing", contract.Preprocessing), ("weights", contract.WeightsOrigin)):
        assert set(SCHEMA["properties"][name]["required"]) == set(record.__annotations__)


def test_the_client_reads_what_the_schema_says(exported):
    found = Manifest.parse(exported.manifest)
    assert found.layers == {name: tuple(layer["shape"]) for name, layer in exported.manifest["layers"].items()}
    assert found.sources == {name: layer["source"] for name, layer in exported.manifest["layers"].items()}
    assert found.alpha == 0.25 and found.formats == contract.FORMATS
    how = found.preprocessing
    assert [how.height, how.width] == exported.manifest["preprocessing"]["image_size"]
    for name in ("interpolation", "crop_to_aspect_ratio", "max_pixels", "apply_orientation", "gray"):
        assert getattr(how, name) == exported.manifest["preprocessing"][name]


@pytest.mark.parametrize(("path", "value"), [(("layers",), {}), (("preprocessing", "gray"), "no"), (("version",), 0)])
def test_the_schema_refuses(exported, path, value):
    changed = copy.deepcopy(exported.manifest)
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(changed)
