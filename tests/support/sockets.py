"""Connected sockets, and the plain end of a connection whose other end is under test."""

from __future__ import annotations

import asyncio
import socket


def tcp_pair(*, small: bool = False) -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over loopback, non-blocking; `small`: with small buffers."""
    with socket.socket() as listener:
        if small:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        near = socket.socket()
        if small:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        near.connect(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def has_ipv6() -> bool:
    """Whether this machine can be reached by ::1."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def why_no_multicast() -> str | None:
    """Why nobody can be reached by multicast over the loopback; None when somebody can."""
    group = socket.inet_aton("239.192.152.143")
    local = socket.inet_aton("127.0.0.1")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(2)
            probe.bind(("", 0))
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + local)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, local)
            probe.sendto(b"?", ("239.192.152.143", probe.getsockname()[1]))
            probe.recv(1)
    except OSError as error:
        return f"no multicast over the loopback here: {error}"
    return None


async def read_exactly(sock: socket.socket, count: int, *, seconds: float = 10) -> bytes:
    """`count` bytes, or fewer when the connection ends before."""
    loop = asyncio.get_running_loop()
    data = bytearray()
    async with asyncio.timeout(seconds):
        while len(data) < count:
            try:
                part = await loop.sock_recv(sock, min(count - len(data), 1 << 20))
            except ConnectionError:
                break
            if not part:
                break
            data += part
    return bytes(data)


async def read_to_end(sock: socket.socket, *, seconds: float = 10) -> bytes:
    """Everything until the connection ends, in order or not."""
    return await read_exactly(sock, 1 << 40, seconds=seconds)
