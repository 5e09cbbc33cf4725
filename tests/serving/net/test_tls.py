"""TLS and mutual TLS, and certificates that do not fit."""

import datetime
import ssl
import urllib.error
import urllib.request

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from featserve_serving import SetupError, create_server
from featserve_serving.launch.cli import main


@pytest.fixture(scope="module")
def pems(tmp_path_factory):
    """Certificates of one authority for `server` and `client`, one of its that is `old`, and a `stranger`'s."""
    folder = tmp_path_factory.mktemp("pems")
    ours, other = trustme.CA(), trustme.CA()
    past = datetime.datetime(2020, 2, 1, tzinfo=datetime.timezone.utc)
    certificates = {
        "server": ours.issue_cert("127.0.0.1", "localhost"),
        "client": ours.issue_cert("client"),
        "old": ours.issue_cert("127.0.0.1", not_before=past - datetime.timedelta(days=30), not_after=past),
        "stranger": other.issue_cert("stranger"),
    }
    ours.cert_pem.write_to_path(folder / "ca.pem")
    for name, certificate in certificates.items():
        certificate.private_key_pem.write_to_path(folder / f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    key = serialization.load_pem_private_key(certificates["server"].private_key_pem.bytes(), None)
    (folder / "encrypted.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"x"),
        )
    )
    return folder


@pytest.fixture
def ssl_config(pems, tmp_path, capsys):
    """Returns a function that writes an `ssl.config` by the command."""

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
        (("server.pem", "encrypted.key"), "expected a key without a passphrase, received an encrypted one"),
    ],
)
def test_certificates_that_do_not_fit_are_an_error(pems, capsys, arguments, text):
    cert, key = arguments
    assert main(["ssl-config", "--cert", str(pems / cert), "--key", str(pems / key)]) == 2
    captured = capsys.readouterr()
    assert text in captured.err and not captured.out


@pytest.mark.parametrize(("name", "text"), [("server", ""), ("old", "clients will refuse it: certificate has expired")])
def test_a_certificate_whose_time_has_passed_is_told(pems, capsys, name, text):
    assert main(["ssl-config", "--cert", str(pems / f"{name}.pem"), "--key", str(pems / f"{name}.key")]) == 0
    captured = capsys.readouterr()
    assert text in captured.err and bool(text) == bool(captured.err) and "server_key" in captured.out


def test_a_malformed_ssl_config_names_line_and_field(publish, base_path, tmp_path):
    publish(1)
    path = tmp_path / "ssl.config"
    path.write_text('server_key: "x"\nserver_certificate: "y"\n')
    with pytest.raises(SetupError, match=r"ssl.config:2:1: .*server_certificate"):
        create_server(model_base_path=base_path, model_name="adder", ssl_config_file=path)
