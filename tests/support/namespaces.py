"""Machines made of network namespaces, joined by one cable, without a default route.

Linux as root only: `why_not` says what is missing. What was made is gone afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.processes import Lab, Running

HERE, THERE = "10.77.1.1", "10.77.1.2"


def ip(*arguments: str) -> bytes:
    """What the command `ip` says."""
    done = subprocess.run(("ip", *arguments), check=True, capture_output=True, timeout=30)
    return done.stdout


def why_not() -> str | None:
    """Why no namespaces can be made here; None when they can."""
    if sys.platform != "linux":
        return "network namespaces are a thing of Linux"
    if os.geteuid() != 0:
        return "network namespaces take root"
    if shutil.which("ip") is None:
        return "the command `ip` is missing (iproute2)"
    name = f"p2pfs-{os.getpid()}-probe"
    try:
        ip("netns", "add", name)
        ip("netns", "del", name)
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.decode().strip()}"
    return None


class Machine(Lab):
    """A lab in a network namespace, at `address`."""

    def __init__(self, folder: Path, namespace: str, address: str) -> None:
        super().__init__(folder, address)
        self.namespace = namespace

    def start(self, *argv: str, **environment: str) -> Running:
        outside = {
            "P2PFS_INDEX": "",
            "P2PFS_TOKEN": "",
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        inside = ("ip", "netns", "exec", self.namespace)
        return super().start(*inside, *argv, **{**outside, **environment})


def _trust_addresses(name: str) -> None:
    """IPv6 addresses that count at once: nobody else can have them here.

    Until they do, for up to two seconds, some clients see no interface but `lo` and never look
    again.
    """
    setting = "/proc/sys/net/ipv6/conf/veth0/accept_dad"
    ip("netns", "exec", name, "sh", "-c", f"! [ -e {setting} ] || echo 0 > {setting}")


def _wait_for_link(name: str) -> None:
    """Until the cable is seen to be plugged in, and every address is usable."""
    patient = time.monotonic() + 30
    while time.monotonic() < patient:
        [link] = json.loads(ip("-n", name, "-json", "address", "show", "veth0"))
        if link["operstate"] == "UP" and not any(a.get("tentative") for a in link["addr_info"]):
            return
        time.sleep(0.01)
    raise TimeoutError(f"the cable of {name} did not come up")


@contextlib.contextmanager
def cable(first: str, second: str) -> Iterator[None]:
    """Two namespaces that see each other and nothing else, gone afterwards."""
    try:
        for name in (first, second):
            ip("netns", "add", name)
        ip("link", "add", "veth0", "netns", first, "type", "veth", "peer", "veth0", "netns", second)
        for name, address in ((first, HERE), (second, THERE)):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "veth0")
            _trust_addresses(name)
            for device in ("lo", "veth0"):
                ip("-n", name, "link", "set", device, "up")
        for name in (first, second):
            _wait_for_link(name)
        yield
    finally:
        for name in (first, second):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)


@contextlib.contextmanager
def two_machines(folder: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two machines that see each other, with a folder each in `folder`."""
    names = [f"p2pfs-{os.getpid()}-{side}" for side in "ab"]
    with cable(*names), contextlib.ExitStack() as stack:
        made = []
        for name, address in zip(names, (HERE, THERE), strict=True):
            place = folder / name[-1]
            place.mkdir()
            made.append(Machine(place, name, address))
            stack.callback(made[-1].close)
        yield made[0], made[1]
