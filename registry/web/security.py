"""Who may read the page: the guard that every request passes before any route.

- Only GET and HEAD reach a route. POST /login and /logout are answered here.
- With a token, every request needs it, except for the style sheet of the sign-in page: as
  `Authorization: Bearer`, or as the session cookie that signing in sets for 12 hours. After some
  wrong tokens, a client must wait before it may try again.
- On a loopback address only requests for a loopback name are answered, so that no web site can
  point its own name here and read the pages (DNS rebinding).
"""

import hmac
import ipaddress
import math
import re
from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.datastructures import URL, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.web.sessions import SESSION_S, Sessions, Tries

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""On every answer."""

COOKIE = "modelmint_ui"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names that always mean this machine."""

_LONGEST_FORM = 4096


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware that lets allowed requests through.

    `sign_in(request, wrong)` renders the page that asks for the token; `hosts` are the host names
    that a request may use, None for any.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        hosts: frozenset[str] | None,
        sign_in: Callable[[Request, bool], Response],
    ) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._hosts = hosts
        self._sign_in = sign_in
        self._sessions, self._tries = Sessions(), Tries()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                # The address of a static file has its content's hash.
                lasting = message["status"] == 200 and scope["path"].startswith("/static/")
                kept = "max-age=31536000, immutable" if lasting else "no-store"
                headers.setdefault("Cache-Control", kept)
            await send(message)

        request = Request(scope, receive)
        answer = await self._answer(request)
        await (answer or self._app)(scope, receive, secured)

    async def _answer(self, request: Request) -> Response | None:
        """The response instead of the page; None lets the request through."""
        if self._hosts is not None and _host_name(request) not in self._hosts:
            return PlainTextResponse(
                "This page is served on a loopback address, for this machine only: open it as "
                "localhost or 127.0.0.1.\n",
                400,
            )
        path = request.url.path
        if self._token is not None and request.method == "POST":
            if path == "/login":
                return await self._log_in(request, self._token)
            if path == "/logout":
                self._sessions.end(request.cookies.get(COOKIE, ""))
                gone = RedirectResponse("/", 303)
                gone.delete_cookie(COOKIE, httponly=True, samesite="strict")
                return gone
        if request.method not in ("GET", "HEAD"):
            text = "The registry's page is read-only: GET and HEAD are all there is.\n"
            return PlainTextResponse(text, 405, {"Allow": "GET, HEAD"})
        if self._token is None or path.startswith("/static/"):
            return None
        if self._sessions.is_valid(request.cookies.get(COOKIE, "")):
            return None
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            # Headers are bytes, which Starlette reads as Latin-1.
            right = self._is_right(request, bearer.strip().encode("latin-1"), self._token)
            if right is None:
                return self._too_often(request)
            if right:
                return None
        refused = self._sign_in(request, False)
        refused.headers["WWW-Authenticate"] = 'Bearer realm="modelmint"'
        if "HX-Request" in request.headers:
            refused.headers["HX-Refresh"] = "true"  # htmx: load the whole page, which asks for it
        return refused

    def _is_right(self, request: Request, given: bytes, token: bytes) -> bool | None:
        """Whether this is the token; None if it is too early for another try."""
        address = _client_address(request)
        if self._tries.wait(address):
            return None
        right = hmac.compare_digest(given, token)
        if not right:
            self._tries.wrong(address)
        return right

    def _too_often(self, request: Request) -> Response:
        seconds = math.ceil(self._tries.wait(_client_address(request)))
        text = f"Too many wrong tokens. Try again in {seconds} seconds.\n"
        return PlainTextResponse(text, 429, {"Retry-After": str(seconds)})

    async def _log_in(self, request: Request, token: bytes) -> Response:
        form = b""
        async for chunk in request.stream():
            form += chunk
            if len(form) > _LONGEST_FORM:
                return PlainTextResponse("That is not a token.\n", 413)
        given = parse_qs(form.decode("latin-1")).get("token", [""])[0]
        right = self._is_right(request, given.strip().encode(), token)
        if right is None:
            return self._too_often(request)
        if not right:
            return self._sign_in(request, True)
        self._sessions.end(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse(landing(request), 303)
        answer.set_cookie(
            COOKIE,
            self._sessions.begin(),
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer


def landing(request: Request) -> str:
    """The address to open after sign-in: the requested page, if it is on this host."""
    if request.url.path != "/login":
        here = request.url
        return here.path + (f"?{here.query}" if here.query else "")
    given = request.query_params.get("next", "/")
    target = URL(given)
    # A browser reads `//host` and `/\host` as other hosts, and drops tabs and line ends.
    plain = re.fullmatch(r"/(?![/\\])[\x20-\x7e]*", given) is not None
    return given if plain and not target.netloc and not target.scheme else "/"


def _client_address(request: Request) -> str:
    """The address of the client; behind a proxy on this machine, the one that the proxy names."""
    return request.client.host if request.client else ""


def _host_name(request: Request) -> str:
    """The host that a request names, without its port.

    Starlette's TrustedHostMiddleware checks it, too, but its answer does not say what to do.
    """
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:\d+)?", request.headers.get("Host", ""))
    return match[1].strip("[]").lower() if match else ""
