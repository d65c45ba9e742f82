"""The routes of the web page."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import quote

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI, Path, Query, Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.staticfiles import StaticFiles

from registry.display import comparing, documents
from registry.display.retraining import chains
from registry.queries.lineage import RETRAINING
from registry.queries.search import HELP
from registry.references import CHAMPION
from registry.registry import Registry
from registry.web import lineage, views
from registry.web.failures import add_failures
from registry.web.pages import STATIC, Pages, version_facts, wants_part
from registry.web.security import LOOPBACK, Guard
from registry.web.together import Together

_LARGEST = 2**53
_NO_ZERO = r"^[^\x00]*$"  # PostgreSQL does not accept a NUL in a text
Text = Annotated[str, Query(max_length=1000, pattern=_NO_ZERO)]
Name = Annotated[str, Path(pattern=_NO_ZERO)]
Cursor = Annotated[str | None, Query(max_length=80, pattern=r"^[^:]*:\d{1,15}$")]
Before = Annotated[int | None, Query(ge=0, le=_LARGEST)]
JobId = Annotated[str | None, Query(max_length=80, pattern=_NO_ZERO)]
Child = Annotated[str | None, Query(max_length=120, pattern=_NO_ZERO)]


def make_app(
    registry: Registry,
    *,
    prefect_ui: str | None,
    token: str | None,
    hosts: frozenset[str] | None = LOOPBACK,
) -> FastAPI:
    """The read-only web page of a registry. The caller closes the registry.

    `prefect_ui` is the address that flow runs are linked to. With a `token`, every request needs
    it. `hosts` are the host names that requests may use, None for any; by default those of a
    loopback address.

    Raises:
        ValueError: the token is empty.
    """
    if token is not None and not token.strip():
        raise ValueError("The token for the page is empty. Give one that nobody can guess.")
    app = FastAPI(
        title="modelmint", openapi_url=None, docs_url=None, redoc_url=None, lifespan=_limit_threads
    )
    pages = Pages(prefect_ui, signs_in=token is not None)
    app.add_middleware(Together, at_once=AT_ONCE)  # within the guard: the last one is outermost
    app.add_middleware(Guard, token=token and token.strip(), hosts=hosts, sign_in=pages.sign_in)
    app.mount("/static", StaticFiles(directory=STATIC))
    add_failures(app, registry, pages)
    _add_models(_page(app), registry, pages)
    _add_versions(_page(app), registry, pages)
    _add_others(_page(app), registry, pages)
    return app


AT_ONCE = 10
"""Pages rendered at a time. More would only wait, for Python's lock or for one of the 15 database
connections that SQLAlchemy opens; a request that waits 30 s for one fails."""


@asynccontextmanager
async def _limit_threads(_app: FastAPI) -> AsyncIterator[None]:
    current_default_thread_limiter().total_tokens = AT_ONCE
    yield


Page = Callable[[str], Callable[[Callable[..., Any]], Callable[..., Any]]]


def _page(app: FastAPI) -> Page:
    """A decorator for a route that accepts only GET and HEAD."""
    return lambda path: app.api_route(path, methods=["GET", "HEAD"], response_model=None)


def _add_models(page: Page, registry: Registry, pages: Pages) -> None:
    @page("/")
    def models(request: Request, q: Text = "", after: Text = "") -> Any:
        contains = q.lower().strip()
        found = registry.overview(contains, limit=views.MODELS, after=after or None)
        part = "_models.html" if wants_part(request, "models") else "models.html"
        part = "_model_rows.html" if wants_part(request, "more") else part
        return pages.answer(request, part, found=found, q=q, any=found.lines or contains or after)

    @page("/models/{name}")
    def model(
        request: Request,
        name: Name,
        q: Text = "",
        order: Text = "newest",
        after: Cursor = None,
        columns: Text = "",
    ) -> Any:
        found = views.version_list(registry, name, q, order=order, after=after, columns=columns)
        shared: dict[str, Any] = {"name": name, "found": found, "q": q, "order": order}
        if wants_part(request, "more"):
            return pages.answer(request, "_version_rows.html", **shared)
        if wants_part(request, "versions"):
            return pages.answer(request, "_versions.html", **shared)
        of = registry.model(name)
        return pages.answer(
            request,
            "model.html",
            400 if found.problem else 200,
            **shared,
            model=of,
            holders=views.holders(registry, name),
            events=registry.history(name, limit=6),
            chains=chains(registry.entries(name, RETRAINING))[: views.CHAINS],
            jobs=(jobs := registry.jobs(name, limit=5)),
            drift=views.last_drift(registry, name, jobs),
            help=HELP,
        )

    @page("/models/{name}/selection")
    def selection(
        request: Request, name: Name, version: Annotated[list[str] | None, Query()] = None
    ) -> Any:
        chosen = sorted(version or [], key=lambda ref: (len(ref), ref))
        return pages.answer(request, "_selection.html", name=name, chosen=chosen)

    @page("/models/{name}/history")
    def history(
        request: Request,
        name: Name,
        before: Before = None,
        alias: Annotated[str | None, Query(max_length=63, pattern=_NO_ZERO)] = None,
        version: Annotated[int | None, Query(ge=1, le=999_999_999)] = None,
    ) -> Any:
        events = registry.history(
            name, alias=alias, version=version, limit=views.EVENTS, before=before
        )
        part = "_event_rows.html" if wants_part(request, "more") else "history.html"
        return pages.answer(
            request,
            part,
            model=registry.model(name),
            events=events,
            alias=alias,
            version=version,
            after=views.next_event(events),
        )

    @page("/models/{name}/jobs")
    def jobs_of_model(request: Request, name: Name, before: JobId = None) -> Any:
        found = registry.jobs(name, limit=views.JOBS + 1, before=before)
        shared: dict[str, Any] = {
            "name": name,
            "number": None,
            "here": f"/models/{quote(name)}/jobs?",
        }
        return pages.answer(request, _jobs_part(request), **views.page_of(found), **shared)


def _add_versions(page: Page, registry: Registry, pages: Pages) -> None:
    @page("/models/{name}/versions/{number}")
    def version(request: Request, name: Name, number: int, params: Text = "") -> Any:
        reference = f"{name}:{number}"
        if wants_part(request, "parameters"):
            found = registry.resolve(reference).version
            lines = _matching(found.params, params)
            return pages.answer(request, "_parameters.html", lines=lines)
        trace = registry.trace(reference, limit=lineage.MOST)
        found, of = trace.version, registry.model(name)
        return pages.answer(
            request,
            "version.html",
            v=found,
            columns=lineage.draw(trace),
            jobs=trace.jobs,
            job_count=trace.job_count,
            # The newest five may all have failed.
            drift=views.drift(trace.jobs)
            or views.drift(registry.trace(reference, limit=views.JOBS).jobs),
            curves=views.curves(registry, found),
            study=views.study(registry, found),
            events=registry.history(name, version=number, limit=views.EVENTS),
            newest=of.last_version,
            champion=next((a.version for a in of.aliases if a.name == CHAMPION), None),
            lines=_matching(found.params, params),
            params=params,
            **version_facts(found),
        )

    @page("/models/{name}/versions/{number}/jobs")
    def jobs_of_version(request: Request, name: Name, number: int, before: JobId = None) -> Any:
        trace = registry.trace(f"{name}:{number}", limit=views.JOBS, before=before)
        here = f"{lineage.href(trace.version.ref)}/jobs?"
        shared: dict[str, Any] = {
            "jobs": trace.jobs,
            "before": trace.before,
            "name": name,
            "number": number,
        }
        return pages.answer(request, _jobs_part(request), **shared, here=here)

    @page("/models/{name}/versions/{number}/children")
    def children(request: Request, name: Name, number: int, after: Child = None) -> Any:
        trace = registry.trace(f"{name}:{number}", limit=views.CHILDREN, after=after)
        return pages.answer(request, "children.html", trace=trace)

    @page("/compare")
    def compare(
        request: Request,
        left: Text = "",
        right: Text = "",
        version: Annotated[list[str] | None, Query()] = None,
    ) -> Any:
        if version:  # two selected boxes of a list, sent without htmx
            chosen = (*sorted(version, key=lambda ref: (len(ref), ref)), "")
            query = request.url.include_query_params(left=chosen[0], right=chosen[1])
            return RedirectResponse(f"/compare?{query.remove_query_params('version').query}", 303)
        if not left.strip() or not right.strip():
            return pages.answer(request, "compare.html", left=left, right=right, both=None)
        both = comparing.compare(
            registry.resolve(left.strip()).version, registry.resolve(right.strip()).version
        )
        return pages.answer(request, "compare.html", left=left, right=right, both=both)


def _add_others(page: Page, registry: Registry, pages: Pages) -> None:
    @page("/jobs")
    def jobs(request: Request, before: JobId = None) -> Any:
        found = registry.jobs(limit=views.JOBS + 1, before=before)
        shared: dict[str, Any] = {"name": None, "number": None, "here": "/jobs?"}
        return pages.answer(request, _jobs_part(request), **views.page_of(found), **shared)

    @page("/jobs/{job}")
    def job(request: Request, job: Name) -> Any:
        found = registry.job(job)
        return pages.answer(request, "job.html", job=found, found=views.drift([found]))

    @page("/trace")
    def trace(request: Request, hash: Text = "", after: Cursor = None, before: JobId = None) -> Any:
        md5 = hash.strip()
        if not md5:
            return pages.answer(request, "trace.html", hash=md5, found=None)
        found = registry.trace_data(md5, limit=views.VERSIONS, after=after, before=before)
        part = "_trace_rows.html" if wants_part(request, "more") else "trace.html"
        part = "_job_rows.html" if wants_part(request, "more-jobs") else part
        values: dict[str, Any] = {
            "jobs": found.jobs,
            "before": found.before,
            "here": f"/trace?hash={quote(md5)}&",
        }
        return pages.answer(request, part, hash=md5, found=found, **values)

    @page("/healthz")
    def healthz() -> Any:
        registry.alias("healthz")  # a query, to check the database
        return PlainTextResponse("ok\n")


def _jobs_part(request: Request) -> str:
    return "_job_rows.html" if wants_part(request, "more-jobs") else "jobs.html"


def _matching(params: dict[str, Any], contains: str) -> list[tuple[str, str]]:
    """The flattened parameters whose name or value contains a text."""
    text = contains.strip().lower()
    lines = documents.flat(params)
    return [(key, value) for key, value in lines if text in f"{key}={value}".lower()]
