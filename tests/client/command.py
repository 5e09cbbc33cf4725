"""The `featserve` command against a server of the tests."""

from featserve_client.cli.main import main

from .fake_server import FakeServer


def featserve(server: FakeServer, command: str, *arguments: object) -> int:
    """Runs a subcommand for the server's model; returns its exit status."""
    return main([command, "--server", server.target, "--model", server.model, *map(str, arguments)])
