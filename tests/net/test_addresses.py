"""Which addresses may be asked, and for whom."""

from __future__ import annotations

import pytest

from p2pfs.errors import NetworkError
from p2pfs.net.addresses import check_target


@pytest.mark.parametrize("host", ["8.8.8.8", "10.0.0.1", "127.0.0.1"])
def test_what_the_user_typed_may_be_anywhere(host: str) -> None:
    check_target(host, path="/x", trusted=True, local=False)


@pytest.mark.parametrize("trusted", [True, False])
def test_link_local_addresses_are_refused_to_everybody(trusted: bool) -> None:
    with pytest.raises(NetworkError, match="never asked"):
        check_target("169.254.169.254", path="/announce", trusted=trusted, local=True)


@pytest.mark.parametrize("host", ["10.0.0.1", "127.0.0.1", "::1", "fd00::1"])
def test_urls_from_outside_reach_local_trackers_but_nothing_else_there(host: str) -> None:
    check_target(host, path="/announce", trusted=False, local=True)
    with pytest.raises(NetworkError, match="only ask for /announce"):
        check_target(host, path="/admin/announce", trusted=False, local=True)
    with pytest.raises(NetworkError, match="from outside"):
        check_target(host, path="/announce", trusted=False, local=False)


def test_urls_from_outside_may_be_public() -> None:
    check_target("8.8.8.8", path="/x", trusted=False, local=False)
