"""Who may read the page: the guard that every request passes before any route.

- Only GET and HEAD reach a route. The one POST there is, /login, is answered here.
- With a token, every request needs it, but for the style sheet of the page that asks for it: as
  `Authorization: Bearer`, or as the cookie that typing it once leaves for some hours. Who gets the
  token wrong, in either way, may soon not try again for a while.
- On a loopback address only requests for a loopback name are answered, so that no web site can
  have its own name point here and read along (DNS rebinding).
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
"""Names under which a browser reaches this machine and no other."""

_LONGEST_FORM = 4096


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware that lets through what may be answered.

    `sign_in(request, wrong)` makes the page that asks for the token; `hosts` are the names that a
    request may be for, None for any.
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
        """What to say instead of the page; None lets the request through."""
        if self._hosts is not None and _name(request) not in self._hosts:
            return PlainTextResponse(
                "This page is served on a loopback address, to this machine alone: open it as "
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
        if self._sessions.knows(request.cookies.get(COOKIE, "")):
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
        """Whether what was given is the token; None where it is too early for another try."""
        address = _address(request)
        if self._tries.wait(address):
            return None
        right = hmac.compare_digest(given, token)
        if not right:
            self._tries.wrong(address)
        return right

    def _too_often(self, request: Request) -> Response:
        seconds = math.ceil(self._tries.wait(_address(request)))
        text = f"The token was wrong too often. Try again in {seconds} seconds.\n"
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
    """Where to go after the token was typed: the page that was asked for, and on this host."""
    if request.url.path != "/login":
        here = request.url
        return here.path + (f"?{here.query}" if here.query else "")
    wanted = request.query_params.get("next", "/")
    target = URL(wanted)
    # `//host` and `/\host` are other hosts to a browser, which also drops tabs and line ends.
    plain = re.fullmatch(r"/(?![/\\])[\x20-\x7e]*", wanted) is not None
    return wanted if plain and not target.netloc and not target.scheme else "/"


def _address(request: Request) -> str:
    """Where a request comes from; of a proxy on this machine, what that one says."""
    return request.client.host if request.client else ""


def _name(request: Request) -> str:
    """The host that a request is for, without its port.

    Starlette's TrustedHostMiddleware looks too, but its answer does not say what to do.
    """
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(:\d+)?", request.headers.get("Host", ""))
    return match[1].strip("[]").lower() if match else ""
