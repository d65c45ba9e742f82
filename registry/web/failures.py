"""What is answered when a page cannot be."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from registry.errors import (
    Corrupt,
    InvalidQuery,
    InvalidReference,
    NoRegistry,
    NotFound,
    RegistryError,
    SchemaMismatch,
    Unreachable,
)
from registry.registry import Registry
from registry.web import views
from registry.web.pages import Pages

_STATUS: dict[type[RegistryError], tuple[int, str]] = {
    NotFound: (404, "Not found"),
    InvalidReference: (404, "Not found"),
    InvalidQuery: (400, "That cannot be searched for"),
    Unreachable: (503, "The registry cannot be reached"),
    NoRegistry: (503, "There is no registry yet"),
    Corrupt: (500, "The registry was edited or is damaged"),
    SchemaMismatch: (503, "The registry needs an upgrade"),
}


def add_failures(app: FastAPI, registry: Registry, pages: Pages) -> None:
    """Answer with a page that says what was wrong, and what else there is."""

    @app.exception_handler(RegistryError)
    def of_registry(request: Request, error: RegistryError) -> Any:
        status, title = _STATUS.get(type(error), (500, "The registry refused"))
        close = views.close_names(registry, error) if isinstance(error, NotFound) else []
        return pages.answer(
            request, "error.html", status, title=title, message=str(error), close=close
        )

    @app.exception_handler(HTTPException)
    def of_http(request: Request, error: HTTPException) -> Any:
        if error.status_code == 404:
            title, message = "Not found", f"There is no page {request.url.path}."
        else:
            title, message = f"Status {error.status_code}", str(error.detail)
        return pages.answer(
            request, "error.html", error.status_code, title=title, message=message, close=[]
        )

    @app.exception_handler(RequestValidationError)
    def of_values(request: Request, error: RequestValidationError) -> Any:
        what = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors())
        in_path = any(e["loc"][0] == "path" for e in error.errors())
        status, title = (404, "Not found") if in_path else (400, "That address cannot be read")
        return pages.answer(
            request, "error.html", status, title=title, message=f"{what}.", close=[]
        )

    @app.exception_handler(Exception)
    def of_ours(request: Request, error: Exception) -> Any:
        message = "This page could not be made. The terminal that serves it says why."
        return pages.answer(
            request, "error.html", 500, title="Something broke", message=message, close=[]
        )
