"""TLS and mutual TLS, and certificates that do not fit."""

import shutil
import ssl
import subprocess
import urllib.error
import urllib.request

import grpc
import pytest
from featserve_serving import SetupError, create_server
from featserve_serving._cli import main

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")


@pytest.fixture(scope="module")
def pems(tmp_path_factory):
    """Certificates of one authority for `server` and `client`, and of another for `stranger`."""
    folder = tmp_path_factory.mktemp("pems")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for authority in ("ca", "otherca"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{authority}.key", "-out",
                f"{authority}.pem", "-days", "2", "-subj", f"/CN={authority}")  # fmt: skip
    openssl("rsa", "-aes256", "-passout", "pass:x", "-in", "ca.key", "-out", "encrypted.key")
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "otherca")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", f"/CN={name}")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
                "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.pem")  # fmt: skip
    return folder


@pytest.fixture
def ssl_config(pems, tmp_path, capsys):
    """Return a function that writes an `ssl.config` by the command."""

    def write(*, mutual):
        arguments = ["ssl-config", "--cert", str(pems / "server.pem"), "--key", str(pems / "server.key")]
        assert main([*arguments, *(["--client-ca", str(pems / "ca.pem")] if mutual else [])]) == 0
        path = tmp_path / "ssl.config"
        path.write_text(capsys.readouterr().out)
        return path

    return write


def credentials(pems, name=None):
    key, cert = ((pems / f"{name}.{kind}").read_bytes() for kind in ("key", "pem")) if name else (None, None)
    return grpc.ssl_channel_credentials((pems / "ca.pem").read_bytes(), key, cert)


def get(server, pems, name=None):
    context = ssl.create_default_context(cafile=pems / "ca.pem")
    if name:
        context.load_cert_chain(pems / f"{name}.pem", pems / f"{name}.key")
    url = f"https://127.0.0.1:{server.rest_port}/v1/models/adder"
    return urllib.request.urlopen(url, context=context, timeout=60).status


def test_server_side_tls(publish, base_path, caller, pems, ssl_config):
    publish(1)
    with create_server(
        model_base_path=base_path,
        model_name="adder",
        ssl_config_file=ssl_config(mutual=False),
        rest_address="127.0.0.1:0",
    ) as server:
        assert caller(server, credentials=credentials(pems)).predict(1) == (2, 1)
        assert get(server, pems) == 200
        with pytest.raises(grpc.RpcError) as refusal:
            caller(server).predict(1)
        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


def test_mutual_tls_gives_nothing_to_others(publish, base_path, caller, pems, ssl_config):
    publish(1)
    with create_server(
        model_base_path=base_path,
        model_name="adder",
        ssl_config_file=ssl_config(mutual=True),
        rest_address="127.0.0.1:0",
    ) as server:
        assert caller(server, credentials=credentials(pems, "client")).predict(1) == (2, 1)
        assert get(server, pems, "client") == 200
        for name in (None, "stranger"):
            for ask in (lambda client: client.predict(1), lambda client: client.health()):
                with pytest.raises(grpc.RpcError) as refusal:
                    ask(caller(server, credentials=credentials(pems, name)))
                assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
            with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
                get(server, pems, name)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("server.pem", "client.key"), "the key is not the certificate's"),
        (("server.key", "server.key"), "not PEM text of a certificate and its key"),
        (("missing.pem", "server.key"), "missing.pem: No such file or directory"),
        (("ca.pem", "encrypted.key"), "expected a key without a passphrase, received an encrypted one"),
    ],
)
def test_certificates_that_do_not_fit_are_an_error(pems, capsys, arguments, text):
    cert, key = arguments
    assert main(["ssl-config", "--cert", str(pems / cert), "--key", str(pems / key)]) == 2
    captured = capsys.readouterr()
    assert text in captured.err and not captured.out


def test_a_certificate_whose_time_has_passed_is_told(pems, tmp_path, capsys):
    config = tmp_path / "ca.config"
    config.write_text(
        "[ca]\ndefault_ca=own\n[own]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=any\n"
        "[any]\ncommonName=supplied\n"
    )
    (tmp_path / "index").touch()
    (tmp_path / "serial").write_text("01\n")
    subprocess.run(
        ["openssl", "ca", "-batch", "-config", config, "-selfsign", "-keyfile", pems / "server.key", "-in",
         pems / "server.csr", "-out", "old.pem", "-startdate", "20200101000000Z", "-enddate", "20200201000000Z"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    for cert, text in (("server.pem", ""), (tmp_path / "old.pem", "clients will refuse it: certificate has expired")):
        assert main(["ssl-config", "--cert", str(pems / cert), "--key", str(pems / "server.key")]) == 0
        captured = capsys.readouterr()
        assert text in captured.err and bool(text) == bool(captured.err) and "server_key" in captured.out


def test_a_malformed_ssl_config_names_line_and_field(publish, base_path, tmp_path):
    publish(1)
    path = tmp_path / "ssl.config"
    path.write_text('server_key: "x"\nserver_certificate: "y"\n')
    with pytest.raises(SetupError, match=r"ssl.config:2:1: .*server_certificate"):
        create_server(model_base_path=base_path, model_name="adder", ssl_config_file=path)
