"""Keeps pages from elsewhere off the console: what a browser may ask, and from where.

A page of another site can make a browser send requests to this machine. Three things stop it:

- `Host` must be an address, `localhost`, or a name that was allowed: a foreign name that was made to resolve to this
  machine (DNS rebinding) is refused. Nobody can rebind an address.
- `Origin`, where a browser sends it, must be the page's own.
- `Sec-Fetch-Site` must say the same, but for links that lead to the page.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src '{}'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Refuses requests that foreign pages caused, and says in each answer what the page may load."""

    def __init__(self, app: ASGIApp, style_hash: str, hosts: Iterable[str] = ()) -> None:
        """Guards an application.

        Args:
            app: the application.
            style_hash: hash of the one style sheet, as a Content-Security-Policy names it.
            hosts: names by which browsers may call it, beside `localhost` and addresses.
        """
        self._app = app
        self._headers = {**_HEADERS, "content-security-policy": _POLICY.format(style_hash)}
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        if scope["type"] != "http":
            return
        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        app = JSONResponse({"error": refusal}, 403, {"connection": "close"}) if refusal else self._app
        await app(scope, receive, send_guarded)

    def _refusal(self, method: str, path: str, headers: Headers) -> str:
        """Returns why a request is refused; nothing if it is not."""
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._is_known(host_name(host)):
            return (
                f"the console does not answer to the host {host[:200]!r}: it answers to localhost, to addresses, and "
                "to names that it was started with (featserve console --allow-host NAME, featserve-serve "
                "--console_hosts NAME)"
            )
        for origin in headers.getlist("origin"):
            if origin.partition("://")[2].lower() != host.lower():
                return f"the console does not answer to pages of {origin[:200]!r}"
        site = headers.get("sec-fetch-site", "none")
        follows_link = method == "GET" and path == "/" and headers.get("sec-fetch-mode") == "navigate"
        if site not in ("same-origin", "none") and not follows_link:
            return "the console does not answer to pages of other sites"
        return ""

    def _is_known(self, name: str) -> bool:
        if name in self._hosts or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True


def host_name(host: str) -> str:
    """Returns the name in a `Host` header: without the port, in lower case, an IPv6 address in its brackets."""
    name, colon, port = host.rpartition(":")
    if not colon or "]" in port:
        name = host
    return name.lower()
