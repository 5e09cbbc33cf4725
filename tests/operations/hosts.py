"""Hosts of our own: network namespaces on one switch, each with an address, known by one name."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

#: The name that stands for all servers, and the network, which leaves this machine nowhere.
NAME, NETWORK = "featserve.test", "10.213.77"
CLIENT = "client"


class Hosts:
    """A client's host and servers' hosts. Needs root, and iproute2.

    Args:
        names: of the servers' hosts.
        tag: tells these namespaces from those of others.
    """

    def __init__(self, names: list[str], tag: str) -> None:
        self._tag = tag
        self._all = [CLIENT, *names]
        self._made = ["switch", *self._all]
        self._etc = Path("/etc/netns") / self._namespace(CLIENT)
        try:
            for name in self._made:
                _ip("netns", "add", self._namespace(name))
            self._link("switch", "add", "bridge", "type", "bridge")
            self._link("switch", "set", "bridge", "up")
            for number, name in enumerate(self._all, start=1):
                self._connect(name, f"{NETWORK}.{number}")
            self._etc.mkdir(parents=True)
            addresses = [f"{self.address(name)} {NAME}\n" for name in names]
            (self._etc / "hosts").write_text("127.0.0.1 localhost\n" + "".join(addresses))
        except BaseException:
            self.remove()
            raise

    def address(self, name: str) -> str:
        """Returns the address of a host."""
        return f"{NETWORK}.{self._all.index(name) + 1}"

    def start(self, name: str, *command: Any, **options: Any) -> subprocess.Popen[str]:
        """Starts a program on a host."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self._namespace(name), *map(str, command)], text=True, **options
        )

    def vanish(self, name: str) -> None:
        """Pull a host's plug from the switch: nothing more comes or goes, and no FIN does."""
        self._link("switch", "set", name, "down")

    def come_back(self, name: str) -> None:
        """Puts the plug in again."""
        self._link("switch", "set", name, "up")

    def slow_down(self, name: str, milliseconds: int) -> bool:
        """Delays what a host sends; returns whether this kernel can."""
        delay = ["tc", "-n", self._namespace(name), *"qdisc add dev eth0 root netem delay".split()]
        return subprocess.run([*delay, f"{milliseconds}ms"], capture_output=True, check=False).returncode == 0

    def lose(self, name: str, share: float) -> str | None:
        """Drops a share of the packets that come to a host; returns why this machine cannot, or None."""
        if shutil.which("iptables") is None:
            return "iptables is not on PATH: apt-get install iptables"
        drop = f"iptables -A INPUT -m statistic --mode random --probability {share} -j DROP".split()
        command = ["ip", "netns", "exec", self._namespace(name), *drop]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        return f"no packets can be dropped at random: {result.stderr.strip()}" if result.returncode else None

    def remove(self) -> None:
        """Removes the namespaces; whatever still runs in them keeps its own until it ends."""
        for name in self._made:
            _ip("netns", "del", self._namespace(name), check=False)
        shutil.rmtree(self._etc, ignore_errors=True)

    def _connect(self, name: str, address: str) -> None:
        where = self._namespace(name)
        self._link("switch", "add", name, *f"type veth peer name eth0 netns {where}".split())
        self._link("switch", "set", name, "master", "bridge", "up")
        _ip("-n", where, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            self._link(name, "set", device, "up")

    def _link(self, name: str, *arguments: str) -> None:
        _ip("-n", self._namespace(name), "link", *arguments)

    def _namespace(self, name: str) -> str:
        return f"{self._tag}-{name}"


def why_not() -> str | None:
    """Returns why there can be no hosts here; None where there can."""
    if shutil.which("ip") is None:
        return "ip is not on PATH: apt-get install iproute2"
    probe = "featserve-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespaces, which need root: {made.stderr.strip()}"
    try:
        bridge = ["ip", "-n", probe, "link", "add", "probe", "type", "bridge"]
        result = subprocess.run(bridge, capture_output=True, text=True, check=False)
        return f"no bridge between network namespaces: {result.stderr.strip()}" if result.returncode else None
    finally:
        _ip("netns", "del", probe, check=False)


def _ip(*arguments: str, check: bool = True) -> None:
    result = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert not check or result.returncode == 0, f"ip {' '.join(arguments)}: {result.stderr}"
