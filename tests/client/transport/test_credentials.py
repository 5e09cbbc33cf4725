"""Certificates and tokens: those that fit, and what is said of those that do not."""

import asyncio
import pathlib
import pickle
from collections.abc import Callable, Iterator

import grpc
import pytest
from featserve_client import (
    TLS,
    AsyncFeatureClient,
    ConfigError,
    ConnectError,
    DeadlineExceeded,
    FeatserveError,
    FeatureClient,
    RetryPolicy,
)
from featserve_client.cli.main import main

from ..fake_server import FakeServer, jpeg


@pytest.fixture(scope="module")
def servers(pems: pathlib.Path) -> Iterator[dict[str, FakeServer]]:
    def credentials(name: str, *, mutual: bool = False) -> grpc.ServerCredentials:
        pair = ((pems / f"{name}.key").read_bytes(), (pems / f"{name}.pem").read_bytes())
        return grpc.ssl_server_credentials([pair], (pems / "ca.pem").read_bytes() if mutual else None, mutual)

    made = {
        "tls": FakeServer(credentials=credentials("server")).start(),
        "mutual": FakeServer(credentials=credentials("server", mutual=True)).start(),
        "expired": FakeServer(credentials=credentials("expired")).start(),
        "future": FakeServer(credentials=credentials("future")).start(),
        "plain": FakeServer().start(),
    }
    yield made
    for server in made.values():
        server.stop()


def own(pems: pathlib.Path, name: str, key: str = "") -> TLS:
    return TLS(ca=pems / "ca.pem", certificate=pems / f"{name}.pem", private_key=pems / f"{key or name}.key")


#: As many tries as by default, with shorter pauses.
QUICK = RetryPolicy(initial_backoff_s=0.01, max_backoff_s=0.05)


def ask(server: FakeServer, **settings: object) -> str:
    """Asks by both clients; returns what was wrong, which must be the same."""
    target = f"127.0.0.1:{server.port}"
    texts = []
    with FeatureClient(target, model="toy", retry=RetryPolicy(max_attempts=1), **settings) as client:
        try:
            assert client.extract(jpeg(0))["late"].shape == (1, 4)
        except FeatserveError as exc:
            texts.append(f"{type(exc).__name__}: {exc}")

    async def ask_async() -> None:
        async with AsyncFeatureClient(target, model="toy", retry=RetryPolicy(max_attempts=1), **settings) as client:
            await client.extract(jpeg(0))

    try:
        asyncio.run(ask_async())
    except FeatserveError as exc:
        texts.append(f"{type(exc).__name__}: {exc}")
    assert len(texts) in (0, 2)
    assert texts[:1] == texts[1:]
    return texts[0] if texts else ""


def test_server_side_and_mutual(servers: dict[str, FakeServer], pems: pathlib.Path) -> None:
    assert not ask(servers["tls"], tls=TLS(ca=pems / "ca.pem"))
    assert not ask(servers["tls"], tls=TLS(ca=str(pems / "ca.pem"), server_name="localhost"))
    assert not ask(servers["mutual"], tls=own(pems, "client"))


def test_the_command_takes_certificates(
    servers: dict[str, FakeServer], pems: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("abc\n")
    command = ["status", "--server", f"127.0.0.1:{servers['mutual'].port}", "--model", "toy"]
    command += ["--ca", f"{pems}/ca.pem", "--certificate", f"{pems}/client.pem", "--private-key", f"{pems}/client.key"]
    assert main([*command, "--token-file", str(tmp_path / "token")]) == 0
    assert servers["mutual"].metadata[-1]["authorization"] == "Bearer abc"
    (tmp_path / "token").write_bytes(b"\xff")
    assert main([*command, "--token-file", str(tmp_path / "token")]) == 2
    assert "--token-file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("server", "make", "text"),
    [
        ("tls", lambda pems: TLS(ca=pems / "otherca.pem"), r"certificate of the server at .* is refused: unable to"),
        ("tls", lambda pems: TLS(), r"certificate of the server at .* is refused: unable to"),
        ("expired", lambda pems: TLS(ca=pems / "ca.pem"), r"is refused: certificate has expired, by the clock of"),
        ("future", lambda pems: TLS(ca=pems / "ca.pem"), r"is refused: certificate is not yet valid, by the clock of"),
        ("tls", lambda pems: TLS(ca=pems / "ca.pem", server_name="elsewhere"), r"is for another name: see server_name"),
        ("plain", lambda pems: TLS(ca=pems / "ca.pem"), r"does not speak TLS"),
        ("tls", lambda pems: None, r"speaks TLS alone: name the authority"),
        ("mutual", lambda pems: TLS(ca=pems / "ca.pem"), r"wants a client's certificate that it trusts"),
        ("mutual", lambda pems: own(pems, "stranger"), r"wants a client's certificate that it trusts"),
        ("mutual", lambda pems: own(pems, "expired"), r"wants a client's certificate that it trusts"),
    ],
)
def test_connections_that_do_not_come_about(
    servers: dict[str, FakeServer],
    pems: pathlib.Path,
    server: str,
    make: Callable[[pathlib.Path], TLS | None],
    text: str,
) -> None:
    before = len(servers[server].metadata)
    with FeatureClient(f"127.0.0.1:{servers[server].port}", model="toy", tls=make(pems), retry=QUICK) as client:
        with pytest.raises(ConnectError, match=text):
            client.status()
        with pytest.raises(DeadlineExceeded, match=f"not ready after timeout_s=0.1 seconds: .*({text}|no answer)"):
            client.wait_until_ready(0.1)
    assert len(servers[server].metadata) == before  # no call reached it


@pytest.mark.parametrize(
    ("server", "make", "text"),
    [
        ("plain", lambda pems: TLS(ca=pems / "ca.pem"), r"does not speak TLS"),
        ("tls", lambda pems: None, r"speaks TLS alone: name the authority"),
        ("tls", lambda pems: TLS(ca=pems / "otherca.pem"), r"is refused: unable to|one side refused the other"),
        ("mutual", lambda pems: TLS(ca=pems / "ca.pem"), r"wants a client's certificate"),
    ],
)
def test_a_name_of_two_addresses_of_which_one_answers(
    servers: dict[str, FakeServer],
    pems: pathlib.Path,
    server: str,
    make: Callable[[pathlib.Path], TLS | None],
    text: str,
) -> None:
    # gRPC knows localhost as ::1, too, where nothing listens, and tells of the last address that it tried.
    with FeatureClient(f"localhost:{servers[server].port}", model="toy", tls=make(pems), retry=QUICK) as client:
        with pytest.raises(ConnectError, match=text):
            client.status()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda pems: TLS(ca=pems / "junk"), "ca: .*junk holds no PEM certificate"),
        (lambda pems: TLS(ca=pems / "missing"), "ca: .*No such file"),
        (lambda pems: own(pems, "client", "server"), "client.pem and private_key .*server.key are not a certificate"),
        (lambda pems: own(pems, "client", "locked"), "locked.key are not .* without a password"),
        (lambda pems: TLS(ca=pems / "ca.pem", certificate="x"), "certificate and private_key together"),
    ],
)
def test_files_that_do_not_fit(
    servers: dict[str, FakeServer], pems: pathlib.Path, make: Callable[[pathlib.Path], TLS], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        FeatureClient(f"127.0.0.1:{servers['mutual'].port}", model="toy", tls=make(pems)).status()


def test_tokens_travel_and_are_asked_for_anew(servers: dict[str, FakeServer], pems: pathlib.Path) -> None:
    tls, server = TLS(ca=pems / "ca.pem"), servers["tls"]
    with FeatureClient(f"127.0.0.1:{server.port}", model="toy", tls=tls, token="abc") as client:
        client.status()
        pickle.loads(pickle.dumps(client)).status()
    assert [call["authorization"] for call in server.metadata[-2:]] == ["Bearer abc"] * 2
    fresh = iter(["one", "two"])
    with FeatureClient(f"127.0.0.1:{server.port}", model="toy", tls=tls, token=lambda: next(fresh)) as client:
        client.status()
        client.status()
    assert [call["authorization"] for call in server.metadata[-2:]] == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("token", ["", "a\nb", "naïve", "a b"])
def test_tokens_no_header_can_carry(servers: dict[str, FakeServer], pems: pathlib.Path, token: str) -> None:
    tls = TLS(ca=pems / "ca.pem")
    with pytest.raises(ConfigError, match="printable ASCII"):
        FeatureClient("localhost:1", model="toy", tls=tls, token=token)
    assert "there is none: the bearer token must be printable" in ask(servers["tls"], tls=tls, token=lambda: token)


def test_a_token_that_cannot_be_had(servers: dict[str, FakeServer], pems: pathlib.Path) -> None:
    def sealed() -> str:
        raise RuntimeError("the vault is sealed")

    text = ask(servers["tls"], tls=TLS(ca=pems / "ca.pem"), token=sealed)
    assert text.startswith("ConnectError: no call to") and text.endswith("there is none: the vault is sealed")


def test_a_token_never_travels_in_plain_text() -> None:
    with pytest.raises(ConfigError, match="token needs tls"):
        FeatureClient("localhost:1", model="toy", token="abc")
