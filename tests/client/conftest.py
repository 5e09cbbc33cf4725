"""Fixtures of the client's tests."""

import datetime
import pathlib
from collections.abc import Iterator

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from featserve_client import FeatureClient

from .fake_server import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer().start()
    yield fake
    fake.stop()


@pytest.fixture
def client(server: FakeServer) -> Iterator[FeatureClient]:
    with FeatureClient(server.target, model="toy", timeout_s=60) as made:
        yield made


@pytest.fixture(scope="session")
def pems(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Certificates of one authority: `server`, `client`, `expired` and `future`; of another: `stranger`."""
    folder = tmp_path_factory.mktemp("pems")
    authorities = {"ca": trustme.CA(), "otherca": trustme.CA()}
    for name, authority in authorities.items():
        authority.cert_pem.write_to_path(folder / f"{name}.pem")
    dates = {
        "expired": {"not_before": datetime.datetime(2001, 1, 1), "not_after": datetime.datetime(2002, 1, 1)},
        "future": {"not_before": datetime.datetime(2090, 1, 1), "not_after": datetime.datetime(2091, 1, 1)},
    }
    for name in ("server", "client", "expired", "future", "stranger"):
        authority = authorities["otherca" if name == "stranger" else "ca"]
        made = authority.issue_cert("127.0.0.1", "localhost", common_name=name, **dates.get(name, {}))
        made.private_key_pem.write_to_path(folder / f"{name}.key")
        made.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    key = serialization.load_pem_private_key((folder / "client.key").read_bytes(), password=None)
    locked = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    (folder / "locked.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))
    (folder / "junk").write_bytes(b"not a certificate")
    return folder
