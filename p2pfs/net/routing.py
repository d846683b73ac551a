"""Which part of the application answers which request.

Invariant: every request gets an answer: what goes wrong on purpose (`P2pfsError`) becomes
a status and a JSON object with an `error` that says what to do.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from p2pfs.errors import FormatError, P2pfsError
from p2pfs.net.asgi_server import Receive, Scope, Send
from p2pfs.net.http_reply import Reply, TooLarge, json_reply, send_reply

__all__ = ["Refused", "Request", "Router"]

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_MAX_FIELDS = 20


class Refused(P2pfsError):
    """The request is answered with `status`; `more` goes into the answer beside the error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        **more: object,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.more = more


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler is told: `argument` is what stands for the placeholder of its path,
    still percent-encoded."""

    scope: Scope
    receive: Receive
    argument: str = ""

    @property
    def source(self) -> str:
        """The IP address that the request came from."""
        return str(self.scope["client"][0])

    def query(self, *known: str) -> dict[str, str]:
        """The first value of each of the `known` parameters that is there.

        Raises `FormatError` for a query with very many parameters.
        """
        try:
            found = parse_qs(
                self.scope["query_string"].decode("latin-1"), max_num_fields=_MAX_FIELDS
            )
        except ValueError:
            raise FormatError(f"a query has {_MAX_FIELDS} parameters at most") from None
        return {name: found[name][0] for name in known if name in found}


Handler = Callable[[Request], Awaitable[Reply]]


class Router:
    """Handlers by method and path, as `/nodes/{id}/renew`.

    A placeholder called `name` also takes slashes. `admit` is asked first about every
    request, and raises `Refused`.
    """

    def __init__(self, admit: Callable[[Scope], Awaitable[None]]) -> None:
        self._admit = admit
        self._routes: list[tuple[re.Pattern[str], str, dict[str, Handler]]] = []

    @property
    def routes(self) -> set[tuple[str, str]]:
        """Methods and paths that are answered here."""
        return {(method, path) for _, path, handlers in self._routes for method in handlers}

    def add(self, path: str, **handlers: Handler) -> None:
        """Answer requests for `path`; `handlers` by method, in capitals."""
        parts = _PLACEHOLDER.split(path)  # text and names of placeholders in turn
        pattern = "".join(
            ("(.+)" if part == "name" else "([^/]+)") if place % 2 else re.escape(part)
            for place, part in enumerate(parts)
        )
        self._routes.append((re.compile(pattern, re.DOTALL), path, handlers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await self._admit(scope)
            reply = await self._dispatch(scope, receive)
        except Refused as error:
            reply = json_reply({"error": str(error)} | error.more, error.status, error.headers)
        except TooLarge as error:
            reply = json_reply({"error": str(error)}, 413)
        except FormatError as error:
            reply = json_reply({"error": str(error)}, 400)
        except P2pfsError as error:
            reply = json_reply({"error": str(error)}, 503)
        await send_reply(
            send, reply.body, status=reply.status, kind=reply.kind, headers=reply.headers
        )

    async def _dispatch(self, scope: Scope, receive: Receive) -> Reply:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        path = scope["raw_path"].decode("latin-1")
        path = path.rstrip("/") or "/"
        for pattern, _, handlers in self._routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if method not in handlers:
                allowed = ", ".join(handlers).encode()
                raise Refused(
                    405, f"{method[:20]} is not possible here", headers=[(b"allow", allowed)]
                )
            return await handlers[method](Request(scope, receive, *match.groups()))
        raise Refused(404, "nothing is here; see /torrents and /nodes")
