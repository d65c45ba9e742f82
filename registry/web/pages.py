"""The templates, and the responses rendered from them."""

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from registry.display import describing, documents, drift, formatting
from registry.records import Version
from registry.web import confusion, lineage, plots
from registry.web.security import HEADERS, landing

HERE = Path(__file__).parent
STATIC = HERE / "static"


class Pages:
    """The templates with their shared functions and values. Every value is escaped."""

    def __init__(self, prefect_ui: str | None, *, signs_in: bool) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters |= formatting.FILTERS | {"drift": drift.drift, "said": drift.said}
        self._templates.globals |= {
            "static": _static_addresses(),
            "signs_in": signs_in,
            "flow_run": _flow_runs(prefect_ui),
            "version_page": lineage.href,
            "headline": documents.headline,
            "lower_is_better": documents.lower_is_better,
            "confusion": confusion.confusion,
            "flat": documents.flat,
            "kind_of": describing.kind_of,
            "WORDS": drift.WORDS,
            "MOST_TAGS": 6,
        }

    def answer(self, request: Request, template: str, status: int = 200, **values: Any) -> Any:
        """Render a page, or a part of one for htmx."""
        template_ = self._templates.get_template(template)
        text = template_.render(path=request.url.path, query=request.query_params, **values)
        # The same address returns a page or a part of it; a browser must not mix them up.
        vary = {"Vary": "HX-Request, HX-Target", "Cache-Control": "no-store"}
        return HTMLResponse(text, status, headers=HEADERS | vary)

    def sign_in(self, request: Request, wrong: bool) -> HTMLResponse:
        """The page that asks for the token."""
        answer: HTMLResponse = self.answer(
            request, "login.html", 401, next=landing(request), wrong=wrong
        )
        return answer


def wants_part(request: Request, target: str) -> bool:
    """Whether htmx requests only the part of a page with this id."""
    return request.headers.get("HX-Target") == target


def version_facts(version: Version) -> dict[str, Any]:
    """The values on a version's page that come from its documents; missing ones are empty."""
    evaluation = version.evaluation
    return {
        "gates": documents.gates(evaluation),
        "parity": documents.parity(evaluation),
        "warnings": documents.warnings(evaluation),
        "intervals": documents.intervals(evaluation),
        "baselines": documents.baselines(evaluation),
        "repeats": documents.repeats(evaluation),
        "notices": documents.notices(evaluation),
        "measured": documents.measurement(version),
        "classes": documents.per_class(evaluation),
        "matrix": confusion.confusion(version),
        "calibration": plots.calibration(evaluation),
        "signature": documents.signature(version.signature),
        "first": documents.headline(documents.measurement(version).metrics, evaluation),
    }


def _static_addresses() -> dict[str, str]:
    """Addresses by file name, with a hash of the content, so that browsers may cache the files."""
    return {
        path.name: f"/static/{path.name}?{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
        for path in STATIC.iterdir()
    }


def _flow_runs(prefect_ui: str | None) -> Any:
    """A function from a flow run's id to its page, which returns None if no Prefect UI is known."""
    known = prefect_ui is not None and urlsplit(prefect_ui).scheme in ("http", "https")
    root = (prefect_ui or "").rstrip("/")

    def address(run: str) -> str | None:
        return f"{root}/runs/flow-run/{quote(run, safe='')}" if known else None

    return address
