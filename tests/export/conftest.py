"""A small export, and a server of it."""

import warnings

import pytest


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """MobileNet at 64 pixels with random weights and two layers: the report of its export."""
    from featserve_export import ExportOptions, export_backbone

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return export_backbone(
            ExportOptions(
                "mobilenet",
                alpha=0.25,
                weights="random",
                image_size=(64, 64),
                layers=["conv_pw_1_relu", "conv_pw_13_relu"],
                model_root=tmp_path_factory.mktemp("models"),
            )
        )


@pytest.fixture(scope="session")
def served(exported):
    """The address of an embedded server of it."""
    from featserve_serving import create_server

    with create_server(model_root=exported.path.parents[1]) as server:
        yield f"127.0.0.1:{server.port}"
