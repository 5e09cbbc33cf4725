"""Local runs of the engines that are installed."""

import ast
import doctest
import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
from featserve_client import integrations
from featserve_client.integrations.ray import FeatureExtractor

from ..fake_server import FakeServer, features, jpeg


def test_a_batch_of_ray(server: FakeServer) -> None:
    batch = {"bytes": np.array([jpeg(0), b"nothing", jpeg(1)], object), "path": np.array(["a", "b", "c"])}
    got = FeatureExtractor(target=server.target, model="toy", layers=["late"])(batch)
    np.testing.assert_array_equal(got["late"][[0, 2]], [features(jpeg(seed))["late"] for seed in (0, 1)])
    assert got["error"][0] == "" and "not an image" in got["error"][1] and not got["late"][1].any()


def example(name: str) -> str:
    """The example in an integration's docstring, for the script's own server, model and folders."""
    module = pathlib.Path(integrations.__file__).with_name(f"{name}.py")
    examples = doctest.DocTestParser().get_examples(ast.get_docstring(ast.parse(module.read_text())) or "")
    code = "".join(each.source for each in examples)
    for written, wanted in {
        '"server:8500"': "target",
        '"vgg16"': '"toy"',
        '"block5_pool"': '"late"',
        '"photos/"': "photos",
        '"features/"': "output",
        "concurrency=4": "concurrency=1",
    }.items():
        code = code.replace(written, wanted)
    return code


RAY = """
import sys, ray
from featserve_client.integrations.ray import FeatureExtractor
target, photos, output = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
""" + example("ray")

SPARK = """
import sys
from pyspark.sql import SparkSession
from featserve_client.integrations.spark import feature_extractor, schema
target, photos, output = sys.argv[1:]
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
""" + example("spark")

BEAM = """
import sys, apache_beam as beam, pyarrow
from apache_beam.io import fileio
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from featserve_client.integrations.beam import FeatureHandler
target, photos, output = sys.argv[1:]
handler = KeyedModelHandler(FeatureHandler(target=target, model="toy", layers=["late"]))
def row(item):
    path, result = item
    found = result.inference
    late = found.features["late"].tolist() if found.error is None else None
    return {"path": path, "error": str(found.error or ""), "late": late}
kinds = {"path": pyarrow.string(), "error": pyarrow.string(), "late": pyarrow.list_(pyarrow.float32())}
with beam.Pipeline("DirectRunner") as pipeline:
    files = pipeline | fileio.MatchFiles(photos + "/*") | fileio.ReadMatches()
    named = files | beam.Map(lambda file: (file.metadata.path, file.read()))
    found = named | RunInference(handler) | beam.Map(row)
    found | beam.io.WriteToParquet(output + "/part", pyarrow.schema(kinds))
"""


@pytest.mark.parametrize(("engine", "code"), [("ray", RAY), ("pyspark", SPARK), ("apache_beam", BEAM)])
def test_a_local_run(server: FakeServer, tmp_path: pathlib.Path, engine: str, code: str) -> None:
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    photos, output = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for seed in range(12):
        (photos / f"{seed:02d}.jpg").write_bytes(jpeg(seed))
    (photos / "99.jpg").write_bytes(b"nothing")
    environment = os.environ | {
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "PYSPARK_PYTHON": sys.executable,
    }
    command = [sys.executable, "-W", "ignore", "-c", code, server.target, str(photos), str(output)]
    ran = subprocess.run(command, timeout=540, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-4000:]
    rows = pyarrow.parquet.read_table(output).to_pylist()
    assert len(rows) == 13
    for row in rows:
        number = int(pathlib.Path(row["path"]).stem)
        if number == 99:
            assert "not an image" in row["error"] and not any(row["late"] or [])
            continue
        assert not row["error"]
        np.testing.assert_array_equal(np.array(row["late"], np.float32), features(jpeg(number))["late"])
