"""Requests for one page at the same moment share an answer, which is never older than a request."""

import asyncio

import pytest

from registry.web.together import Together


class Site:
    """An ASGI application that counts the pages it makes and takes its time."""

    def __init__(self):
        self.made, self.fails, self.go = [], False, asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.made.append(scope["path"])
        number = len(self.made)
        await self.go.wait()
        if self.fails:
            raise RuntimeError("no page")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": f"{scope['path']} {number}".encode()})


async def get(app, path="/", method="GET", headers=()):
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": b""}
    await app({**scope, "headers": list(headers)}, None, send)
    return sent[1]["body"].decode()


async def begun(*requests):
    """The requests as tasks that have run until they wait."""
    tasks = [asyncio.ensure_future(request) for request in requests]
    for _ in range(10):
        await asyncio.sleep(0)
    return tasks


def test_requests_that_wait_for_the_same_page_share_one_answer():
    async def run():
        site = Site()
        app = Together(site, at_once=2)
        tasks = await begun(*(get(app) for _ in range(50)))
        site.go.set()
        return await asyncio.gather(*tasks), site.made

    answers, made = asyncio.run(run())
    assert len(made) == 3  # two began at once; all others waited for the third
    assert sorted(set(answers)) == ["/ 1", "/ 2", "/ 3"]
    assert answers.count("/ 3") == 48


def test_a_request_never_joins_a_page_that_is_already_being_made():
    async def run():
        site = Site()
        app = Together(site, at_once=10)
        first = await begun(get(app))
        second = await begun(get(app))  # something may have been promoted in between
        site.go.set()
        return await asyncio.gather(*first, *second)

    assert asyncio.run(run()) == ["/ 1", "/ 2"]


def test_other_pages_other_parts_and_other_methods_are_not_joined():
    part = [(b"hx-target", b"versions")]

    async def run():
        site = Site()
        app = Together(site, at_once=1)
        blocking = await begun(get(app, "/blocking"))
        asked = (get(app), get(app, "/b"), get(app, headers=part), get(app, method="HEAD"))
        tasks = await begun(*asked, get(app), get(app, headers=part))
        site.go.set()
        await asyncio.gather(*blocking)
        return await asyncio.gather(*tasks)

    a, b, in_part, head, again, part_again = asyncio.run(run())
    assert len({a, b, in_part, head}) == 4
    assert (again, part_again) == (a, in_part)


def test_an_error_reaches_everybody_who_waited_and_nobody_after_them():
    async def run():
        site = Site()
        app = Together(site, at_once=1)
        site.fails = True
        tasks = await begun(*(get(app) for _ in range(4)))
        site.go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        site.fails = False
        return results, await get(app)

    results, after = asyncio.run(run())
    assert [str(error) for error in results] == ["no page"] * 4
    assert after == "/ 3"


def test_a_visitor_who_leaves_does_not_take_the_page_from_the_others():
    async def run():
        site = Site()
        app = Together(site, at_once=1)
        blocking = await begun(get(app, "/blocking"))
        leaving, *staying = await begun(*(get(app) for _ in range(3)))
        leaving.cancel()
        site.go.set()
        await asyncio.gather(*blocking)
        with pytest.raises(asyncio.CancelledError):
            await leaving
        return await asyncio.gather(*staying)

    assert asyncio.run(run()) == ["/ 2", "/ 3"]  # one of them had to be made again
