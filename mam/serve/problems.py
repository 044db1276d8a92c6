"""What clients are told when something does not work: one line in plain words, never a traceback.

The form is that of OpenAI's API, {"error": {"message", "type", "param", "code"}}, because its clients understand it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from mam.errors import (
    ConflictError,
    EndpointError,
    InputError,
    MamError,
    MissingError,
    RemainsError,
    StoreError,
    WeightsError,
)

log = logging.getLogger(__name__)

STATUS = {  # the first that fits
    MissingError: 404,
    ConflictError: 409,
    InputError: 400,
    EndpointError: 502,
    StoreError: 503,
    WeightsError: 503,
}
TYPES = {401: "authentication_error", 404: "not_found_error", 409: "conflict_error", 429: "rate_limit_error"}
UNEXPECTED = "Something went wrong here; the server's log says what. Nothing stored was lost."
FAILED = {  # what is said of trouble of the server's own: its words tell where things are, and what they run on
    EndpointError: "The server of the base cannot be reached, refused or broke off; what it said until then is kept.",
    RemainsError: "It is purged and nothing reads it any more, but a copy may remain; this server's log says where.",
    StoreError: "The memory cannot be used just now. Nothing stored was lost; try again later.",
    WeightsError: "The base or the memory model cannot be used just now. Nothing stored was lost.",
}
LONGEST = 500  # characters of a message: some quote what was sent


class Problem(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Error(BaseModel):
    """What went wrong."""

    error: Problem


ANY = {"4XX": {"model": Error, "description": "Refused"}, "5XX": {"model": Error, "description": "Failed"}}


class Refused(MamError):
    """A request that is not even looked at, with its HTTP status and headers."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


def line(error: Exception) -> str:
    """What may be said of an error; one that is no fault of the user's is logged, and not shown."""
    failed = next((words for kind, words in FAILED.items() if isinstance(error, kind)), None)
    if isinstance(error, MamError) and not failed:
        return str(error).encode("utf-8", "replace").decode()[:LONGEST]
    log.error("%s", error, exc_info=None if failed else error)
    return failed or UNEXPECTED


def content(error: Exception, param: str | None = None) -> tuple[int, dict]:
    """HTTP status and body for an error."""
    if isinstance(error, Refused):
        status = error.status
    else:
        status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return status, Error(error=Problem(message=line(error), type=kind, param=param)).model_dump()


def problem(error: Exception, param: str | None = None) -> JSONResponse:
    status, body = content(error, param)
    return JSONResponse(body, status, headers=getattr(error, "headers", None))


def handle(app: FastAPI, routes: Sequence[APIRoute]) -> None:
    """Answer every error of the app's so. routes: what can be done, for those who try something else."""

    async def mended(request: Request, error: Exception) -> JSONResponse:
        return problem(error)

    async def http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:  # FastAPI names the methods of one function only, not of the path
            fitting = [route.methods for route in routes if route.path_regex.match(request.url.path)]
            headers["Allow"] = ", ".join(sorted(set().union(*fitting))) or headers.get("Allow", "")
        return problem(Refused(error.status_code, f"{error.detail}: {request.method} {request.url.path!r}", headers))

    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return problem(InputError(f"{where or first['loc'][0]}: {first['msg']}."), where or None)

    app.add_exception_handler(MamError, mended)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, mended)
