"""Makes a page once for all visitors who wait for it.

When a link is sent around, many people open the same page at once. Each page costs 20 to 40 ms of
the processor: 200 visitors would wait for 200 of them, 8 s.
"""

import asyncio
from collections.abc import Hashable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ASKED = (b"host", b"hx-request", b"hx-target")
"""Headers that change an answer: which part of a page, and where it redirects to."""


class Together:
    """ASGI middleware: requests for the same page that wait for their turn get one answer.

    A request never joins one that has begun, so an answer is as new as if it were made alone. Put
    it behind whatever checks who may see the page.
    """

    def __init__(self, app: ASGIApp, at_once: int) -> None:
        """`at_once` is how many pages are made at a time."""
        self._app = app
        self._turns = asyncio.Semaphore(at_once)
        self._waiting: dict[Hashable, asyncio.Future[list[Message]]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if not page or scope["path"].startswith("/static/"):  # files have conditions of their own
            await self._app(scope, receive, send)
            return
        for message in await self._answer(scope, receive):
            await send(message)

    async def _answer(self, scope: Scope, receive: Receive) -> list[Message]:
        asked = tuple(header for header in scope["headers"] if header[0] in _ASKED)
        key = (scope["method"], scope["path"], scope["query_string"], asked)
        while waiting := self._waiting.get(key):
            try:
                return await asyncio.shield(waiting)
            except asyncio.CancelledError:
                if not waiting.cancelled():  # this request, not the one that it waited for
                    raise
        answer: asyncio.Future[list[Message]] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        try:
            async with self._turns:
                self._forget(key, answer)
                answer.set_result(await self._make(scope, receive))
        except asyncio.CancelledError:
            self._forget(key, answer)
            answer.cancel()
            raise
        except BaseException as error:
            self._forget(key, answer)
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # the others raise it; without any, nobody has to
            raise
        return answer.result()

    def _forget(self, key: Hashable, answer: "asyncio.Future[list[Message]]") -> None:
        if self._waiting.get(key) is answer:
            del self._waiting[key]

    async def _make(self, scope: Scope, receive: Receive) -> list[Message]:
        made: list[Message] = []

        async def keep(message: Message) -> None:
            made.append(message)

        await self._app(scope, receive, keep)
        return made
