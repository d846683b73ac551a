"""libtorrent as a program of its own: a crash or a hang of it ends only this process.

    foreign_client.py TORRENT|MAGNET FOLDER [--listen ADDRESS] [--up-limit BYTES]
                      [--down-limit BYTES] [--lsd] [--log] [--disguised LEVEL]

Says one JSON object a line: `ready` with the port it listens on, `progress` several times a
second, `complete` once, `final` at the end. Stays and serves until standard input says
`exit` or ends; `connect ADDRESS PORT` there dials a peer. `pex` and `lsd` are the peers that
it has been told of by peer exchange and by local discovery, as ADDRESS PORT. With `--log` each
message that it sent or got is a `log`: `==> HAVE_NONE [ ... ]` went out, `<== ...` came in. With
`--disguised` it makes and takes no connection that begins in the clear; LEVEL 1: it goes on in the
clear, 2: under RC4, 3: it leaves that to the other.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import threading
from typing import Any

import libtorrent as lt  # type: ignore[import-untyped,unused-ignore]

SETTINGS = {
    "enable_dht": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_outgoing_utp": False,
    "enable_incoming_utp": False,
    "allow_multiple_connections_per_ip": True,
    "stop_tracker_timeout": 1,
    "alert_mask": lt.alert.category_t.error_notification | lt.alert.category_t.status_notification,
}


def say(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def known_by(handle: Any, source: int) -> list[str]:
    return [f"{one.ip[0]} {one.ip[1]}" for one in handle.get_peer_info() if one.source & source]


def report(event: str, handle: Any) -> Any:
    status = handle.status()
    say(
        event,
        state=str(status.state),
        done=status.total_wanted_done,
        downloaded=status.total_payload_download,
        uploaded=status.total_payload_upload,
        failed=status.total_failed_bytes,
        peers=status.num_peers,
        pex=known_by(handle, lt.peer_info.pex),
        lsd=known_by(handle, lt.peer_info.lsd),
        error=status.errc.message() if status.errc.value() else "",
    )
    return status


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("torrent")
    parser.add_argument("folder")
    parser.add_argument("--listen", default="127.0.0.1")
    parser.add_argument("--up-limit", type=int, default=0)
    parser.add_argument("--down-limit", type=int, default=0)
    parser.add_argument("--lsd", action="store_true")
    parser.add_argument("--disguised", type=int, default=0)
    parser.add_argument("--log", action="store_true")
    options = parser.parse_args()

    listen_to = f"[{options.listen}]" if ":" in options.listen else options.listen
    own = {"listen_interfaces": f"{listen_to}:0", "enable_lsd": options.lsd}
    if options.disguised:
        own |= {"in_enc_policy": 0, "out_enc_policy": 0}  # both forced
        own["allowed_enc_level"] = options.disguised
    if options.log:
        own["alert_mask"] = SETTINGS["alert_mask"] | lt.alert.category_t.peer_log_notification
        own["alert_queue_size"] = 100_000
    session = lt.session({**SETTINGS, **own})
    if options.torrent.startswith("magnet:"):
        params = lt.parse_magnet_uri(options.torrent)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(options.torrent)
    params.save_path = options.folder
    params.upload_limit = options.up_limit
    params.download_limit = options.down_limit
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    handle = session.add_torrent(params)
    say("ready", port=session.listen_port())

    leaving = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            word, *more = line.split()
            if word == "exit":
                break
            if word == "connect":
                handle.connect_peer((more[0], int(more[1])))
        leaving.set()

    threading.Thread(target=listen, daemon=True).start()
    complete = False
    while not leaving.wait(0.2):
        for alert in session.pop_alerts():
            if isinstance(alert, lt.tracker_error_alert | lt.file_error_alert):
                say("note", text=alert.message())
            elif isinstance(alert, lt.peer_log_alert) and (
                message := re.search("(==>|<==) .*", alert.message())
            ):
                say("log", text=message[0])
        status = report("progress", handle)
        if status.is_seeding and not complete:
            complete = True
            report("complete", handle)
    report("final", handle)


main()
