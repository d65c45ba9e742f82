"""The web page: real servers on loopback, and a real browser."""

import html
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from amounts import usual
from browser import open_browser, save_screenshot
from playwright.sync_api import Browser, BrowserContext, Page, expect
from projects import Project
from registry_helpers import (
    bundle_candidate,
    database_url,
    drift_document,
    make_candidate,
    open_registry,
)
from starlette.requests import Request

from registry import Policy, Registry, Version
from registry.display.comparing import compare
from registry.display.documents import flat, lower_is_better, signature
from registry.display.formatting import ago, day, duration, figure, signed, size, spelled
from registry.web import make_app, serve
from registry.web.app import AT_ONCE
from registry.web.plots import calibration, training
from registry.web.security import HEADERS, LOOPBACK, landing
from registry.web.serving import listen, server
from registry.web.sessions import SESSION_S, Sessions, Tries
from registry.web.views import VERSIONS, conditions
from tasks.problems import METRICS
from tasks.workspace import Workspace

WEB = Path(__file__).parents[2] / "registry" / "web"
PREFECT = "http://127.0.0.1:4200"
MANY = 2 * VERSIONS + 10
EVIL = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
TOKEN = "correct horse battery staple ✓"

# Every text of the page that does not stand out enough from what is behind it (WCAG 2, AA).
FAINT = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const read = (css) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, under) => under.map((u, i) => top[i] * top[3] + u * (1 - top[3]));
  const behind = (element) => {
    if (!element) return read(matchMedia("(prefers-color-scheme: dark)").matches ? "#000" : "#fff");
    const own = read(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : [...over(own, behind(element.parentElement)).slice(0, 3), 1];
  };
  const light = (c) => {
    const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = c.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || text === "·" || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), ground = behind(element);
    const [a, b] = [light(over(read(style.color), ground).slice(0, 3)), light(ground.slice(0, 3))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) found.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""


@contextmanager
def serving(app: object) -> Iterator[str]:
    """The address of a server in a thread."""
    running = server(app)
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        while not running.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """A function that opens a page; errors in the browser's console fail the test at its end."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def answered(response) -> None:
        if response.status >= 400:
            complaints.append(f"{response.status} {response.url}")

    def failed(request) -> None:
        if request.failure != "net::ERR_ABORTED":  # by a click that leaves the page
            complaints.append(f"{request.failure} {request.url}")

    def make(width: int = 1280, **settings: object) -> Page:
        height = 844 if width < 600 else 900
        context = browser.new_context(viewport={"width": width, "height": height}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", failed)
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("response", answered)
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def evaluation() -> dict:
    """An evaluation as `export` writes it."""
    classes = ["cat", "dog", EVIL]
    counts = [[30, 2, 0], [1, 28, 4], [0, 0, 31]]
    return {
        "passed": True,
        "gates": [{"gate": "accuracy", "value": 0.93, "condition": ">= 0.9", "passed": True}],
        "parity": {
            "rows": 96, "batch_sizes": [1, 7, 96], "tolerance": 1e-4, "max_error": 2.5e-6,
            "flipped": 0, "passed": True,
        },
        "test_split": {"rows": 96, "sha256": "e" * 64},
        "metrics": {
            "rows": 96,
            "headline": ["macro_f1", "accuracy"],
            "per_class": {c: {"precision": 0.9, "recall": 1.0, "support": 32.0} for c in classes},
            "confusion": counts,
            "calibration": [
                {"confidence": 0.4, "accuracy": 0.5, "rows": 20},
                {"confidence": 0.9, "accuracy": 0.8, "rows": 76},
            ],
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, evaluation: dict) -> Iterator[Registry]:
    """A registry with many versions of one model, and with texts that contain scripts."""
    folder = tmp_path_factory.mktemp("filled")
    with open_registry(folder) as registry:
        base = make_candidate(folder / "bundle")
        for number in range(1, MANY + 1):
            (folder / "bundle" / "model.onnx").write_text(f"model {number}")
            candidate = replace(
                base,
                metrics={
                    "accuracy": 0.5 + number / 200, "macro_f1": 0.9, "log_loss": 1 / number,
                    "calibration_error": 0.01,
                },
                params={"train": {"epochs": number % 7, "seed": number, "name": EVIL}},
                evaluation=evaluation,
                signature={
                    "task": "multiclass",
                    "columns": [{"name": "colour", "kind": "category", "values": ["red", EVIL]}],
                    "inputs": [{"name": "x", "dtype": "int64", "shape": [1]}],
                    "outputs": [{"name": "probabilities", "dtype": "float32", "shape": [3]}],
                    "classes": ["cat", "dog", EVIL],
                },
                lineage=replace(
                    base.lineage,
                    dataset=f"{number % 2:032x}.dir",
                    flow_run_id=f"run-{number}",
                    parent=f"pets:{number - 1}" if number in (2, 3) else None,
                    data={"data/raw/pets.csv": "5" * 32, EVIL: "6" * 32},
                ),
            )  # fmt: skip
            registry.register("pets", candidate, actor="ada")
        registry.tag("pets", MANY, "note", EVIL, actor="ada")
        for number in (2, 3):
            registry.approve("pets", number, actor="grace", reason=EVIL)
            registry.promote("pets", number, expect_revision=None, actor=EVIL, reason=EVIL)
        registry.promote(
            "pets", MANY, "challenger", expect_revision=0, actor="ada", reason="it is newer"
        )
        registry.set_policy("pets", Policy(four_eyes=True, keep_last=20), actor="ada")
        registry.refuse("pets", candidate, actor="ada", reason="accuracy is too low")
        job = registry.start_job(
            registry.resolve("pets"), input_sha256="7" * 64, output=EVIL, flow_run_id="job-run"
        )
        ran = {"provider": "CPUExecutionProvider", "onnxruntime": "1.31.0"}
        registry.finish_job(
            job, rows=1234, quarantined=5678, drift=drift_document(name=EVIL), **ran
        )
        failed = registry.start_job(
            registry.resolve("pets:3"), input_sha256="8" * 64, output="predictions/b"
        )
        registry.fail_job(failed, EVIL)
        # What other registries may send: no evaluation, and documents of other forms.
        odd = {"metrics": {"confusion": [[1, 2], [3]], "per_class": 3}, "gates": "none"}
        for model, document in (("imported", {}), ("odd", {"parity": [], **odd})):
            strange = make_candidate(
                folder / model, model, evaluation=document, signature={"inputs": "x"}, params={}
            )
            registry.admit(model, strange, "imported", actor="ada")
        yield registry


@pytest.fixture(scope="module")
def site(filled: Registry) -> Iterator[str]:
    with serving(make_app(filled, prefect_ui=PREFECT, token=None)) as address:
        yield address


PAGES = {
    "models": "/",
    "model": "/models/pets",
    "version": "/models/pets/versions/3",
    "compare": "/compare?left=pets:2&right=pets@champion",
    "history": "/models/pets/history",
    "jobs": "/jobs",
    "trace": f"/trace?hash={'5' * 32}",
    "imported": "/models/imported/versions/1",
    "odd": "/models/odd/versions/1",
    "compare-nothing": "/compare",
    "trace-nothing": "/trace",
}


BOTH = [(1280, "dark"), (390, "light")]


@pytest.mark.parametrize(("width", "scheme"), usual(BOTH, [*BOTH, (1280, "light"), (390, "dark")]))
def test_each_page_fits_a_laptop_and_a_phone(visit, site, scheme, width):
    page = visit(width, color_scheme=scheme)
    for name, address in PAGES.items():
        page.goto(site + address)
        page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        assert page.evaluate(FAINT) == [], name
        assert page.locator("h1").count() <= 1, name
        save_screenshot(page, f"registry-{name}-{scheme}-{width}")


def test_user_text_is_escaped_on_every_page(visit, site):
    page = visit()
    for address in PAGES.values():
        page.goto(site + address)
        assert page.title().endswith("· modelmint")
        assert page.locator("img[src=x]").count() == 0
    page.goto(f"{site}/models/pets/history")
    expect(page.locator("td", has_text=EVIL).first).to_be_visible()
    page.goto(f"{site}/models/pets/versions/{MANY}")
    expect(page.locator(".tag", has_text=EVIL)).to_be_visible()
    page.goto(f"{site}/models/pets")
    page.get_by_label("Search versions by conditions").fill(EVIL)
    expect(page.locator(".notice", has_text="<script>")).to_be_visible()


def test_long_list_is_loaded_page_by_page(visit, site):
    page = visit()
    page.goto(f"{site}/models/pets")
    rows = page.locator("#versions input[type=checkbox]")
    expect(rows).to_have_count(VERSIONS)
    page.get_by_text("Load older versions").click()
    expect(rows).to_have_count(2 * VERSIONS)
    page.get_by_text("Load older versions").click()
    expect(rows).to_have_count(MANY)
    expect(page.get_by_text("Load older versions")).to_have_count(0)
    refs = rows.evaluate_all("all => all.map(one => one.value)")
    assert refs == [f"pets:{number}" for number in range(MANY, 0, -1)]
    page.goto(f"{site}/models/pets/history")
    page.get_by_text("Load older events").click()
    expect(page.get_by_text("Load older events")).to_have_count(0)
    expect(page.locator("tbody tr")).to_have_count(MANY + 8)


def test_search_updates_the_list_while_typing_and_the_url(visit, site):
    page = visit()
    page.goto(f"{site}/models/pets")
    box = page.get_by_label("Search versions by conditions")
    rows = page.locator("#versions input[type=checkbox]")
    box.press_sequentially("metric.accuracy >= 0.79")
    expect(rows).to_have_count(3)
    expect(page).to_have_url(re.compile(r"\?q=metric"))
    page.reload()
    expect(rows).to_have_count(3)
    box.fill("status=approved")
    expect(rows).to_have_count(2)
    box.fill("accuracy")
    expect(page.locator("#versions .notice")).to_contain_text("'accuracy' is not a condition")
    box.fill("tag.team=nobody")
    expect(page.get_by_text("No version meets")).to_be_visible()
    box.fill("")
    expect(rows).to_have_count(VERSIONS)
    page.get_by_role("link", name="log loss").click()
    expect(rows.first).to_have_value(f"pets:{MANY}")
    page.get_by_role("link", name="log loss").click()
    expect(rows.first).to_have_value("pets:1")
    box.fill("metric.accuracy>=0.79")
    expect(rows).to_have_count(3)
    expect(rows.first).to_have_value(f"pets:{MANY - 2}")


def test_two_selected_versions_are_compared(visit, site):
    page = visit()
    page.goto(f"{site}/models/pets")
    page.get_by_label(f"Compare pets:{MANY}").check()
    expect(page.locator("#selection")).to_contain_text("select another one")
    page.get_by_label(f"Compare pets:{MANY - 5}").check()
    page.get_by_label(f"Compare pets:{MANY - 1}").check()
    expect(page.locator("#selection")).to_contain_text("3 are selected")
    page.get_by_label(f"Compare pets:{MANY - 1}").uncheck()
    page.locator("#selection").get_by_role("link", name="Compare").click()
    expect(page).to_have_url(f"{site}/compare?left=pets%3A{MANY - 5}&right=pets%3A{MANY}")
    loss = page.locator("tr", has=page.get_by_text("log_loss"))
    expect(loss).to_contain_text("lower is better")
    expect(loss.locator(".verdict")).to_have_text("better")
    expect(page.get_by_text("train.seed")).to_be_visible()
    expect(page.get_by_text("train.name")).to_have_count(0)
    expect(page.locator("table.matrix")).to_have_count(2)
    expect(page.locator("section", has=page.locator("#h-gates"))).to_contain_text("passed")
    expect(page.locator("section", has=page.locator("#h-classes"))).to_contain_text("recall")
    page.get_by_role("link", name="Swap").click()
    expect(loss.locator(".verdict")).to_have_text("worse")


def test_the_page_works_without_javascript(visit, site):
    page = visit(java_script_enabled=False)
    page.goto(f"{site}/models/pets")
    page.get_by_text("Load older versions").click()
    expect(page.get_by_text(f"pets:{MANY - VERSIONS}", exact=True).first).to_be_visible()
    page.get_by_label(f"Compare pets:{MANY - VERSIONS}").check()
    page.get_by_label(f"Compare pets:{MANY - VERSIONS - 1}").check()
    page.locator("#selection button").click()
    expect(page).to_have_title(f"pets:{MANY - 26} and pets:{MANY - 25} · modelmint")
    page.goto(f"{site}/models/pets/versions/3")
    page.get_by_label("Filter the parameters").fill("seed")
    page.keyboard.press("Enter")
    expect(page.locator("#parameters tr")).to_have_count(1)


def test_parameter_filter_and_hash_copy_work(visit, site, filled):
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.goto(f"{site}/models/pets/versions/3")
    page.get_by_label("Filter the parameters").press_sequentially("epo")
    expect(page.locator("#parameters tr")).to_have_count(1)
    digest = filled.resolve("pets:3").version.digest
    page.get_by_label(f"Copy {digest}").first.click()
    expect(page.locator("#said")).to_have_text(f"Copied {digest}")
    assert page.evaluate("navigator.clipboard.readText()") == digest


def test_every_control_can_be_focused_by_keyboard(visit, site):
    page = visit()
    page.goto(f"{site}/models/pets")
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
        reached.add(page.evaluate("document.activeElement.textContent.trim()"))
    assert {"Skip to the content", "Jobs", "pets:3", "Search conditions"} <= reached


def test_version_page_shows_a_real_training_and_job(trained: Project, visit, tmp_path):
    outcome = trained.outcome
    _, number = outcome["version"].split(":")
    predicted = ("data/prepared/test.arrow", "--output", str(tmp_path / "predicted"))
    trained.modelmint("predict", outcome["version"], *predicted)
    with Registry(
        f"sqlite:///{trained.root / 'modelmint.db'}", trained.root / "artifacts"
    ) as registry:
        version = registry.resolve(f"digits:{number}").version
        with serving(make_app(registry, prefect_ui=PREFECT, token=None)) as site:
            page = visit()
            page.goto(f"{site}/models/digits/versions/{number}")
            expect(page.locator(".big-figure").first).to_have_text(
                f"{version.metrics['macro_f1']:.4f}"
            )
            expect(page.locator("table.matrix tbody tr")).to_have_count(10)
            told = page.locator("table.matrix tbody td").all_inner_texts()
            counts = [n for row in version.evaluation["metrics"]["confusion"] for n in row]
            assert [int(text.replace("·", "0")) for text in told] == counts
            expect(page.locator(".flow")).to_contain_text("data/raw/")
            run = page.locator(f'a[href="{PREFECT}/runs/flow-run/{outcome["flow_run_id"]}"]')
            expect(run.first).to_be_visible()
            expect(page.locator(".flow")).to_contain_text("360 rows")
            expect(page.get_by_role("img", name=re.compile("^Training"))).to_be_visible()
            expect(page.get_by_role("img", name="Calibration")).to_be_visible()
            assert page.evaluate(FAINT) == []
            save_screenshot(page, "registry-real-version")
            # Another version to compare with needs no training: the same files, other parameters.
            params = {**version.params, "train": {**version.params["train"], "seed": 78}}
            candidate = replace(bundle_candidate(Workspace(trained.root)), params=params)
            other = registry.register("digits", candidate, actor="ada").version
            page.goto(f"{site}/compare?left=digits:{number}&right={other.ref}")
            expect(page.get_by_text("train.seed")).to_be_visible()
            save_screenshot(page, "registry-real-compare")
            page.goto(f"{site}/models/digits")
            save_screenshot(page, "registry-real-model")


# Security


def test_too_many_wrong_tokens_are_rejected_without_comparison(filled):
    with (
        serving(make_app(filled, prefect_ui=None, token=TOKEN)) as site,
        httpx.Client(base_url=site) as guest,
        httpx.Client(base_url=site) as known,
    ):
        assert known.post("/login", data={"token": TOKEN}).status_code == 303
        for _ in range(3):
            assert guest.post("/login", data={"token": "wrong"}).status_code == 401
        for _ in range(2):  # the same guess by another way
            assert guest.get("/", headers={"Authorization": "Bearer wrong"}).status_code == 401
        right = {"Authorization": b"Bearer " + TOKEN.encode()}
        for refused in (
            guest.post("/login", data={"token": "wrong"}),
            guest.post("/login", data={"token": TOKEN}),
            guest.get("/", headers=right),
        ):
            assert refused.status_code == 429
            assert 1 <= int(refused.headers["Retry-After"]) <= 12
            assert "Try again in" in refused.text
        assert guest.get("/").status_code == 401  # which says where to sign in
        assert known.get("/models/pets").status_code == 200  # who is signed in stays so


def test_wrong_tokens_are_limited_per_address_and_in_total():
    moment = 1000.0
    tries = Tries(lambda: moment)
    for _ in range(5):
        assert tries.wait("192.0.2.1") == 0
        tries.wrong("192.0.2.1")
    assert tries.wait("192.0.2.1") == 12
    assert tries.wait("192.0.2.2") == 0
    moment += 12
    assert tries.wait("192.0.2.1") == 0
    tries.wrong("192.0.2.1")
    assert tries.wait("192.0.2.1") == 12
    for number in range(5):  # one network of IPv6 is one address
        tries.wrong(f"2001:db8::{number}")
    assert tries.wait("2001:db8::ffff") == 12
    assert tries.wait("2001:db8:0:1::1") == 0
    for number in range(60):
        tries.wrong(f"198.51.100.{number}")
    assert tries.wait("203.0.113.1") > 0
    moment += 3600
    assert tries.wait("192.0.2.1") == tries.wait("203.0.113.1") == 0
    for number in range(5000):
        tries.wrong(f"host-{number}")
    assert len(tries._each) == 1000


def test_session_ends_after_12_hours_or_at_sign_out():
    moment = 1000.0
    sessions = Sessions(lambda: moment)
    first, second = sessions.begin(), sessions.begin()
    assert first != second
    assert sessions.is_valid(first)
    sessions.end(first)
    sessions.end("never begun")
    assert not sessions.is_valid(first)
    moment += SESSION_S - 1
    assert sessions.is_valid(second)
    moment += 1
    assert not sessions.is_valid(second)
    assert not sessions.is_valid("")
    ids = [sessions.begin() for _ in range(1500)]
    assert len(sessions._ends) == 1000
    assert sessions.is_valid(ids[-1])


def test_cookie_is_invalid_after_sign_out(filled):
    with serving(make_app(filled, prefect_ui=None, token=TOKEN)) as site:
        answer = httpx.post(f"{site}/login", data={"token": TOKEN})
        assert f"Max-Age={SESSION_S}" in answer.headers["Set-Cookie"]
        cookie = {"Cookie": f"modelmint_ui={answer.cookies['modelmint_ui']}"}
        assert httpx.get(site, headers=cookie).status_code == 200
        assert httpx.post(f"{site}/logout", headers=cookie).status_code == 303
        assert httpx.get(site, headers=cookie).status_code == 401


SLOW = {
    "nothing": [],
    "half a line": [b"GET / HT"],
    "half a header": [b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "],
    "half a body": [b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\ntoken="],
    "a second request": [b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET / HT"],
    "a byte now and then": [b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ", *[b"a"] * 200],
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
def test_incomplete_request_times_out(filled, sent, monkeypatch):
    monkeypatch.setattr("registry.web.serving.REQUEST_S", 0.3)
    with serving(make_app(filled, prefect_ui=None, token=TOKEN)) as site:
        port = int(site.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(0.05)
            deadline, closed, rest = time.monotonic() + 30, False, list(sent)
            while not closed and time.monotonic() < deadline:
                with suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
                    if rest:
                        connection.sendall(rest.pop(0))
                    closed = connection.recv(65536) == b""
                    continue
                closed = closed or _is_reset(connection)
            assert closed
        assert httpx.get(f"{site}/static/style.css").status_code == 200


def _is_reset(connection: socket.socket) -> bool:
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


def test_concurrent_pages_do_not_exceed_database_connections(filled, site):
    pool = filled.database._engine.pool
    assert pool.size() + pool._max_overflow >= AT_ONCE

    with ThreadPoolExecutor(60) as pool_of_visitors:
        page = [f"{site}/models/pets/versions/3"] * 60
        found = pool_of_visitors.map(lambda address: httpx.get(address, timeout=120), page)
        assert [answer.status_code for answer in found] == [200] * 60


def test_routes_accept_get_and_head_only(filled, site):
    app = make_app(filled, prefect_ui=None, token="t")
    methods = {method for route in app.routes for method in getattr(route, "methods", ["GET"])}
    assert methods == {"GET", "HEAD"}
    before = filled.history("pets", limit=1)
    with httpx.Client(base_url=site) as client:
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            for path in (*PAGES.values(), "/login", "/logout", "/healthz", "/static/style.css"):
                answer = client.request(method, path)
                assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert filled.history("pets", limit=1) == before
    assert httpx.head(f"{site}/models/pets").status_code == 200


def test_each_response_has_the_security_headers(filled, site):
    with serving(make_app(filled, prefect_ui=None, token=TOKEN)) as closed:
        answers = [
            httpx.get(site),
            httpx.get(f"{site}/nothing"),
            httpx.get(f"{site}/models/nothing"),
            httpx.get(f"{site}/static/style.css"),
            httpx.get(f"{site}/static/../app.py"),
            httpx.get(f"{site}/healthz"),
            httpx.post(site),
            httpx.get(site, headers={"Host": "evil.example"}),
            httpx.get(closed),
            httpx.post(f"{closed}/login"),
        ]
    for answer in answers:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        assert "server" not in answer.headers
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_templates_have_no_inline_script_and_no_unescaped_value():
    for path in (WEB / "templates").iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=|hx-on|javascript:", text)
        assert not re.search(r"\|\s*safe|autoescape|Markup", text), path
        assert not re.search(r"(src|href)=\"(https?:)?//", text), path
    assert (WEB / "static" / "htmx.min.js").read_text().startswith("/*! htmx.org 2")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("localhost:8080", 200), ("LOCALHOST", 200), ("127.0.0.1:1", 200),
        ("[::1]:4300", 200), ("evil.example", 400), ("evil.example:80", 400), ("", 400),
        ("localhost.evil.example", 400), ("127.0.0.1.evil.example", 400), ("localhost:80:80", 400),
        ("[::1]evil.example", 400),
    ],
)  # fmt: skip
def test_loopback_server_refuses_other_host_names(site, host, status):
    assert httpx.get(f"{site}/healthz", headers={"Host": host}).status_code == status


def test_token_is_required_for_every_request(filled):
    with serving(make_app(filled, prefect_ui=None, token=TOKEN)) as site:
        for path in (*PAGES.values(), "/healthz", "/nothing", "/login", f"/?token={TOKEN}"):
            refused = httpx.get(site + path)
            assert refused.status_code == 401
            assert "pets" not in refused.text.replace("next=", "") or "pets" in path
            assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        right = {"Authorization": b"Bearer " + TOKEN.encode()}
        assert httpx.get(f"{site}/models/pets", headers=right).status_code == 200
        for wrong in ("Bearer", "Bearer x", f"Basic {TOKEN[:-2]}", "Bearer " + TOKEN[:-2]):
            headers = {"Authorization": wrong.encode()}
            assert httpx.get(site, headers=headers).status_code == 401
        for cookie in ("", TOKEN[:-2], "0" * 64):
            assert httpx.get(site, headers={"Cookie": f"modelmint_ui={cookie}"}).status_code == 401
        assert httpx.post(f"{site}/login", data={"token": "x" * 9999}).status_code == 413
        htmx = httpx.get(site, headers={"HX-Request": "true"})
        assert htmx.headers["HX-Refresh"] == "true"


def test_token_is_entered_once_per_session(filled, browser):
    with serving(make_app(filled, prefect_ui=None, token=TOKEN)) as site:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{site}/models/pets?q=status%3Dapproved")
        save_screenshot(page, "registry-login")
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_text("Wrong token.")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(f"{site}/models/pets?q=status%3Dapproved")
        expect(page.locator("#versions input[type=checkbox]")).to_have_count(2)
        (cookie,) = context.cookies()
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        assert TOKEN.encode().hex() not in cookie["value"]
        assert "correct" not in cookie["value"]
        page.goto(f"{site}/jobs")
        expect(page.get_by_role("heading", name="Batch jobs")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Token")).to_be_visible()
        page.goto(f"{site}/jobs")
        expect(page.get_by_label("Token")).to_be_visible()
        context.close()


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        ("/models/pets?q=a%20b", "/models/pets?q=a%20b"), ("", "/"), ("//evil.example", "/"),
        ("/\\evil.example", "/"), ("https://evil.example", "/"), ("javascript:alert(1)", "/"),
        ("/\t/evil.example", "/"), ("/x\r\nSet-Cookie: a=b", "/"), ("models", "/"),
    ],
)  # fmt: skip
def test_sign_in_redirects_only_to_this_host(wanted, where):
    query = str(httpx.QueryParams({"next": wanted})).encode()
    scope = {"type": "http", "path": "/login", "query_string": query, "headers": []}
    assert landing(Request(scope | {"server": ("localhost", 80), "scheme": "http"})) == where


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_serve_on_an_open_address_needs_a_token(filled, host):
    for token in (None, ""):
        with pytest.raises(ValueError, match="needs a token"):
            serve(filled, host, 0, token, None)


def test_empty_token_is_refused(filled):
    with pytest.raises(ValueError, match="empty"):
        make_app(filled, prefect_ui=None, token=" ")


def test_port_in_use_is_a_readable_error(filled):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"{port} cannot be listened on"):
            serve(filled, "127.0.0.1", port, None, None)


def test_ctrl_c_stops_the_server_without_a_traceback(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = (
        "from registry import Registry\nfrom registry.web import serve\n"
        f"with Registry('{database_url(tmp_path)}', '{tmp_path}/artifacts') as registry:\n"
        "    registry.create()\n"
        f"    serve(registry, '127.0.0.1', {port}, None, None)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    address = f"http://127.0.0.1:{port}/healthz"
    transport = httpx.HTTPTransport(retries=10)
    with httpx.Client(transport=transport, timeout=60) as client:
        assert client.get(address).text == "ok\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")


def test_open_address_answers_any_host_name(filled):
    with serving(make_app(filled, prefect_ui=None, token=TOKEN, hosts=None)) as site:
        headers = {"Host": "models.example", "Authorization": b"Bearer " + TOKEN.encode()}
        assert httpx.get(site, headers=headers).status_code == 200
    assert "127.0.0.1" in LOOPBACK


# Drift


def test_pages_show_which_columns_of_the_last_job_moved_then_and_now(visit, site, filled):
    (job,) = (job for job in filled.jobs("pets") if job.drift)
    for width in (1280, 390):
        page = visit(width)
        for address in ("/models/pets", f"/models/pets/versions/{job.version}", f"/jobs/{job.id}"):
            page.goto(site + address)
            panel = page.get_by_role("region", name="Drift")
            expect(panel).to_contain_text("1 of 2 columns, predictions included, differs from")
            expect(panel).to_contain_text("beside the 3 jobs before it, 600 rows")
            assert panel.get_by_role("img").count() == 2
            assert panel.locator("rect.bar-now").count() == 6
            panel.get_by_text("Values").first.click()
            expect(panel.get_by_role("cell", name="below 1.5")).to_be_visible()
            expect(panel.get_by_role("cell", name="85 %")).to_be_visible()  # 170 of 200 rows
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
            assert page.evaluate(FAINT) == [], address
            assert page.locator("img[src=x]").count() == 0
        save_screenshot(page, f"registry-drift-{width}")
    page.goto(f"{site}/jobs")
    page.get_by_role("link", name="drifted").click()
    expect(page).to_have_url(f"{site}/jobs/{job.id}")


def test_a_page_shows_what_it_can_of_a_document_of_another_form(tmp_path):
    odd = {"most": [7, {"measures": 3}, {"name": 1, "measures": [{"now": [1], "then": "x"}]}]}
    documents = {
        "not judged": odd | {"verdict": 5, "earlier": "yes", "columns": [1], "rows": "many"},
        "the job has 3 rows": drift_document(None) | {"reason": "the job has 3 rows"},
        "no drift": drift_document("none"),
    }
    with open_registry(tmp_path) as registry:
        registry.register("pets", make_candidate(tmp_path / "bundle"), actor="ada")
        ran = {"rows": 3, "provider": "CPU", "onnxruntime": "1.31.0"}
        for number, document in enumerate([*documents.values(), None]):
            job = registry.start_job(
                registry.resolve("pets:1"), input_sha256="7" * 64, output=str(number)
            )
            registry.finish_job(job, **ran, drift=document)
        with serving(make_app(registry, prefect_ui=None, token=None)) as site:
            none, *jobs = registry.jobs("pets")
            for job, text in zip(reversed(jobs), documents, strict=True):
                answer = httpx.get(f"{site}/jobs/{job.id}")
                assert (answer.status_code, text in answer.text) == (200, True)
            assert "It was not measured" in httpx.get(f"{site}/jobs/{none.id}").text
            assert httpx.get(f"{site}/jobs").status_code == 200
            assert httpx.get(f"{site}/models/pets/versions/1").status_code == 200


def test_drift_is_shown_although_the_newest_jobs_have_failed(tmp_path):
    with open_registry(tmp_path) as registry:
        registry.register("pets", make_candidate(tmp_path / "bundle"), actor="ada")
        resolved = registry.resolve("pets:1")
        job = registry.start_job(resolved, input_sha256="7" * 64, output="first")
        ran = {"rows": 200, "provider": "CPU", "onnxruntime": "1.31.0"}
        registry.finish_job(job, **ran, drift=drift_document())
        for number in range(7):
            failed = registry.start_job(resolved, input_sha256="8" * 64, output=f"out-{number}")
            registry.fail_job(failed, "InputError: broken")
        with serving(make_app(registry, prefect_ui=None, token=None)) as site:
            for address in ("/models/pets", "/models/pets/versions/1"):
                text = httpx.get(site + address).text
                assert "1 of 2 columns, predictions included, differs" in text
                assert f'href="/jobs/{job.id}"' in text


def test_the_history_links_to_the_flow_runs_that_registered_or_were_refused(site):
    for address, run in (("history", f"run-{MANY}"), ("history?version=3", "run-3")):
        text = httpx.get(f"{site}/models/pets/{address}").text
        assert f'href="{PREFECT}/runs/flow-run/{run}"' in text
    refused = httpx.get(f"{site}/models/pets/history").text.partition("accuracy is too low")[2]
    assert f"{PREFECT}/runs/flow-run/run-{MANY}" in refused.partition("</tr>")[0]


# What is long


def test_jobs_and_children_are_listed_page_by_page(tmp_path, monkeypatch):
    monkeypatch.setattr("registry.web.views.JOBS", 3)
    monkeypatch.setattr("registry.web.views.CHILDREN", 3)
    with open_registry(tmp_path) as registry:
        base = make_candidate(tmp_path / "bundle")
        registry.register("pets", base, actor="ada")
        for number in range(7):
            child = replace(base.lineage, parent="pets:1")
            candidate = make_candidate(tmp_path / "bundle", f"child {number}", lineage=child)
            registry.register("pets", candidate, actor="ada")
            registry.start_job(
                registry.resolve("pets:1"), input_sha256="7" * 64, output=f"output-{number}"
            )
        with serving(make_app(registry, prefect_ui=None, token=None)) as site:
            for first in (
                "/jobs", "/models/pets/jobs", "/models/pets/versions/1/jobs",
                f"/trace?hash={base.lineage.dataset}",
            ):  # fmt: skip
                address, seen = first, []
                while address:
                    text = httpx.get(site + address).text
                    seen += re.findall(r"output-(\d)", text)
                    found = re.search(r'href="([^"]*before=[^"]*)"', text)
                    address = html.unescape(found[1]) if found else None
                expected = [str(number) for number in range(6, -1, -1)]
                assert seen == (expected if "trace" not in first else seen), first
                assert set(seen) == set(expected), first
            text = httpx.get(f"{site}/models/pets/versions/1").text
            assert "and 9 more" in text
            assert "All 7 of them" in text
            address, seen = "/models/pets/versions/1/children", []
            while address:
                text = httpx.get(site + address).text
                seen += re.findall(r'<a href="/models/pets/versions/(\d)">pets:\d</a>', text)
                found = re.search(r'href="([^"]*after=[^"]*)"', text)
                address = html.unescape(found[1]) if found else None
            assert seen == [str(number) for number in range(2, 9)]


def test_long_value_is_clipped_in_lists_and_full_on_its_page(tmp_path):
    long, name = "long " * 95 + "END", "n" * 200
    with open_registry(tmp_path) as registry:
        tags = {"note": long} | {f"tag-{number}": "x" for number in range(9)}
        base = make_candidate(tmp_path / "bundle", tags=tags)
        registry.register("pets", base, actor=name)
        registry.approve("pets", 1, actor="ada", reason=long)
        job = registry.start_job(registry.resolve("pets:1"), input_sha256="7" * 64, output=long)
        registry.fail_job(job, long)
        with serving(make_app(registry, prefect_ui=None, token=None)) as site:
            rows = httpx.get(f"{site}/models/pets", headers={"HX-Target": "versions"}).text
            assert "END" not in rows
            assert name not in rows
            assert "long long" in rows
            assert "and 4 more" in rows
            page = httpx.get(f"{site}/models/pets/versions/1").text
            assert name in page
            assert page.count("END") >= 4  # the tag, the reason, the job's output and its error
            assert "tag-8" in page


# Plots


def test_training_and_calibration_plots_have_a_text_summary(visit, tmp_path, evaluation):
    lines = ["epoch,train_loss,validation_loss,validation_metric,learning_rate"]
    lines += [f"{e},{2 / e},{1 + (e - 4) ** 2 / 10},0.5,0.001" for e in range(1, 7)]
    with open_registry(tmp_path) as registry:
        candidate = make_candidate(tmp_path / "bundle", evaluation=evaluation)
        history = tmp_path / "bundle" / "history.csv"
        history.write_text("\n".join(lines) + "\n")
        files = {**candidate.files, "history.csv": history}
        registry.register("pets", replace(candidate, files=files), actor="ada")
        with serving(make_app(registry, prefect_ui=None, token=None)) as site:
            page = visit(390)
            page.goto(f"{site}/models/pets/versions/1")
            training = page.get_by_role("img", name=re.compile("^Training"))
            expect(training).to_be_visible()
            expect(page.get_by_text("the lowest is 1.0000 in epoch 4").last).to_be_visible()
            expect(page.get_by_role("img", name="Calibration")).to_be_visible()
            page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
            assert page.evaluate(FAINT) == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            save_screenshot(page, "registry-plots")
            # Without the file the rest of the page is there.
            shutil.rmtree(tmp_path / "artifacts")
            page.goto(f"{site}/models/pets/versions/1")
            expect(page.get_by_role("img", name="Calibration")).to_be_visible()
            expect(page.get_by_role("img", name=re.compile("^Training"))).to_have_count(0)


def test_training_plot_skips_missing_losses():
    head = "epoch,train_loss,validation_loss\n"
    drawn = training(head + "1,4.0,2.0\n2,nan,1.0\n3,1.0,3.0\n")
    assert drawn.summary == (
        "Validation loss is 2.0000 in epoch 1 and 3.0000 in epoch 3; the lowest is 1.0000 in "
        "epoch 2."
    )
    losses, validation = drawn.lines
    assert (losses.name, validation.name) == ("train loss", "validation loss")
    assert losses.path == "M 62 12 M 548 186"  # with a gap where there is no loss
    assert validation.path == "M 62 128 L 305 186 L 548 70"
    assert drawn.rows[1] == ("2", "none", "1.0000")
    assert [tick.text for tick in drawn.x_ticks] == ["1", "2", "3"]
    many = training(head + "".join(f"{n},1.0,1.0\n" for n in range(1, 5001)))
    assert all(line.path.count("L") < 400 for line in many.lines)
    assert len(many.rows) == 100
    for text in ("", "nonsense", head, head + "1,1,1\n", head + "a,1,1\nb,1,1\n", "a,b\n1,2\n"):
        assert training(text) is None


@pytest.mark.parametrize(
    "bins",
    [None, [], 3, [3], [{}], [{"confidence": 2, "accuracy": 0.5, "rows": 1}],
     [{"confidence": 0.5, "accuracy": "x", "rows": 1}]],
)  # fmt: skip
def test_malformed_calibration_is_not_plotted(bins):
    assert calibration({"metrics": {"calibration": bins}}) is None
    assert calibration({}) is None


# Mistakes


def test_unknown_name_on_a_page_suggests_a_close_match(browser, site):
    page = browser.new_page()
    page.goto(f"{site}/models/pet")
    expect(page.get_by_text("Did you mean 'pets'?")).to_be_visible()
    save_screenshot(page, "registry-404")
    page.get_by_role("link", name="pets").click()
    expect(page.get_by_role("heading", name="pets", exact=True)).to_be_visible()
    page.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404), ("/models/nothing", 404), ("/models/Not_A_Name!", 404),
        ("/models/pets/versions/999", 404), ("/models/pets/versions/x", 404),
        ("/models/pets/versions/0", 404), (f"/models/pets/versions/{'9' * 40}", 404),
        ("/models/nothing/history", 404), ("/models/nothing/jobs", 404),
        ("/models/pets?q=nonsense", 400), ('/models/pets?q=tag.a="b', 400),
        ("/models/pets?after=x", 400), (f"/models/pets?after=:{'9' * 40}", 400),
        ("/models/pets?order=x", 400), ("/models/pets?q=metric.a>=nan", 400),
        ("/models/pets/history?before=x", 400), (f"/models/pets/history?before={'9' * 40}", 400),
        ("/models/pets/history?alias=none", 200), ("/models/pets/history?version=77", 200),
        ("/compare?left=pets:1&right=none:1", 404), ("/compare?left=!&right=pets", 404),
        ("/compare?version=pets:1", 200), ("/jobs?before=x", 404), ("/jobs?before=%00", 400),
        ("/models/pets/versions/3/jobs?before=x", 404), ("/models/pets/versions/77/jobs", 404),
        ("/models/pets/versions/1/children?after=pets", 400), ("/trace?hash=a", 400),
        (f"/trace?hash={32 * '0'}&before=x", 404), (f"/trace?hash={32 * '0'}", 200),
        ("/trace?hash=%00", 400), ("/models/pets?q=%00", 400),
        ("/trace?hash=a%0Ab", 400), ("/models/p%00", 404), ("/compare?version=a&version=b", 404),
        (f"/models/pets?q={'x' * 2000}", 400),
    ],
)  # fmt: skip
def test_error_page_says_what_went_wrong(site, path, status):
    answer = httpx.get(site + path, follow_redirects=True)
    assert answer.status_code == status
    assert "</html>" in answer.text


def test_static_files_are_cached_and_pages_are_not(site):
    assert "immutable" in httpx.get(f"{site}/static/style.css").headers["Cache-Control"]
    for path in ("/", "/static/none.css", "/models/pets", "/nothing"):
        assert httpx.get(site + path).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("address", [None, "javascript:alert(1)", "/prefect"])
def test_flow_run_is_linked_only_to_a_http_url(filled, address):
    with serving(make_app(filled, prefect_ui=address, token=None)) as site:
        text = httpx.get(f"{site}/models/pets/versions/3").text
        assert "run-3" in text
        assert "/runs/flow-run/" not in text


def test_empty_registry_page_says_how_to_begin(visit, tmp_path):
    with (
        open_registry(tmp_path) as registry,
        serving(make_app(registry, prefect_ui=None, token=None)) as site,
    ):
        registry.create()
        page = visit()
        page.goto(site)
        expect(page.get_by_text("modelmint train")).to_be_visible()
        save_screenshot(page, "registry-empty")
        page.goto(f"{site}/jobs")
        expect(page.get_by_text("Nothing was predicted yet")).to_be_visible()
        assert httpx.get(f"{site}/healthz").text == "ok\n"


# What is shown


def test_lower_is_better_agrees_with_the_gates(evaluation):
    assert {n for n, m in METRICS.items() if m.lower_is_better != lower_is_better(n)} == set()
    assert not lower_is_better("accuracy")


def test_comparison_lists_what_changed(filled):
    both = compare(*(filled.resolve(f"pets:{n}").version for n in (2, 3)))
    lines = {line.name: line for line in both.metrics}
    assert [line.name for line in both.metrics][:2] == ["macro_f1", "accuracy"]
    assert lines["accuracy"].difference == pytest.approx(0.005)
    verdicts = {name: line.verdict for name, line in lines.items()}
    assert verdicts == {
        "accuracy": "better", "macro_f1": "same", "log_loss": "better", "calibration_error": "same",
    }  # fmt: skip
    assert {change.key for change in both.params} == {"train.epochs", "train.seed"}
    assert both.params_alike == 1
    assert {change.key for change in both.origin} == {"dataset", "parent", "flow run"}
    assert both.same_split
    assert not both.same_bytes


def test_comparison_gives_no_verdict_for_a_missing_metric(filled):
    one = filled.resolve("pets:2").version
    other: Version = replace(one, metrics={"rmse": 3.0}, evaluation={})
    lines = {line.name: line for line in compare(one, other).metrics}
    assert (lines["rmse"].left, lines["rmse"].right, lines["rmse"].verdict) == (None, 3.0, "")


def test_display_formats_values():
    assert [figure(v) for v in (0, 0.98765, 12.5, 12345.678, 1.5e-6, -0.5)] == [
        "0.0000", "0.9877", "12.5000", "12,345.68", "1.5e-06", "-0.5000",
    ]  # fmt: skip
    assert [signed(v) for v in (0.5, -0.5, 0)] == ["+0.5000", "\N{MINUS SIGN}0.5000", "±0.0000"]
    assert [size(n) for n in (0, 999, 1000, 12_345_678)] == ["0 B", "999 B", "1.0 kB", "12.3 MB"]
    assert [duration(s) for s in (0.24, 61, 3725)] == ["0.2 s", "1 min 1 s", "1 h 2 min"]
    assert [spelled(n) for n in ("macro_f1", "r2", "log_loss")] == ["macro F1", "R²", "log loss"]
    moment = datetime.now(UTC)
    assert ago(moment) == "just now"
    assert ago(moment - timedelta(seconds=90)) == "1 min ago"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", day(moment))


def test_search_text_is_split_into_conditions():
    assert conditions(" metric.a >= 0.9  tag.team = risk ") == ["metric.a>=0.9", "tag.team=risk"]
    assert conditions('tag.note="two words"') == ["tag.note=two words"]
    assert conditions("") == []


def test_display_flattens_any_json_document():
    document = {"a": {"b": [1, None], "c": {}}, "d": "text"}
    assert dict(flat(document)) == {"a.b": "[1, null]", "a.c": "{}", "d": "text"}
    assert signature({"columns": [3, {"name": None}], "classes": [1]}) is not None
    assert signature({"columns": "none"}) is None
    assert json.dumps(document)
