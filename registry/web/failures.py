"""Error pages."""

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
    InvalidQuery: (400, "Invalid search"),
    Unreachable: (503, "The registry cannot be reached"),
    NoRegistry: (503, "There is no registry yet"),
    Corrupt: (500, "The registry was edited or is damaged"),
    SchemaMismatch: (503, "The registry needs an upgrade"),
}


def add_failures(app: FastAPI, registry: Registry, pages: Pages) -> None:
    """Answer errors with a page that says what was wrong and links close matches."""

    @app.exception_handler(RegistryError)
    def registry_error(request: Request, error: RegistryError) -> Any:
        status, title = _STATUS.get(type(error), (500, "The registry refused"))
        close = views.close_names(registry, error) if isinstance(error, NotFound) else []
        return pages.answer(
            request, "error.html", status, title=title, message=str(error), close=close
        )

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> Any:
        if error.status_code == 404:
            title, message = "Not found", f"There is no page {request.url.path}."
        else:
            title, message = f"Status {error.status_code}", str(error.detail)
        return pages.answer(
            request, "error.html", error.status_code, title=title, message=message, close=[]
        )

    @app.exception_handler(RequestValidationError)
    def invalid_values(request: Request, error: RequestValidationError) -> Any:
        what = "; ".join(f"{e['loc'][-1]}: {e['msg']}" for e in error.errors())
        in_path = any(e["loc"][0] == "path" for e in error.errors())
        status, title = (404, "Not found") if in_path else (400, "Invalid address")
        return pages.answer(
            request, "error.html", status, title=title, message=f"{what}.", close=[]
        )

    @app.exception_handler(Exception)
    def other_error(request: Request, error: Exception) -> Any:
        message = "This page could not be rendered. The terminal that serves it shows the error."
        return pages.answer(
            request, "error.html", 500, title="Internal error", message=message, close=[]
        )
