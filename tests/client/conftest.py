"""Fixtures of the client's tests."""

import pathlib
import shutil
import subprocess
from collections.abc import Iterator

import pytest
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
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make certificates")
    folder = tmp_path_factory.mktemp("pems")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for authority in ("ca", "otherca"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{authority}.key", "-out",
                f"{authority}.pem", "-days", "2", "-subj", f"/CN={authority}")  # fmt: skip
    for name, authority, days in (("server", "ca", 2), ("client", "ca", 2), ("expired", "ca", -1),
                                  ("future", "ca", 2), ("stranger", "otherca", 2)):  # fmt: skip
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", f"/CN={name}")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
                "-CAcreateserial", "-days", str(days), "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip
    # Only `ca` takes a first day.
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca = all\n[all]\ndatabase = index\nserial = ca.srl\nnew_certs_dir = .\ndefault_md = sha256\n"
        "policy = names\n[names]\ncommonName = supplied\n"
    )
    (folder / "index").touch()
    openssl("ca", "-batch", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-in", "future.csr",
            "-notext", "-startdate", "20900101000000Z", "-enddate", "20910101000000Z", "-extfile", "names",
            "-out", "future.pem")  # fmt: skip
    openssl("rsa", "-aes128", "-passout", "pass:secret", "-in", "client.key", "-out", "locked.key")
    (folder / "junk").write_bytes(b"not a certificate")
    return folder
