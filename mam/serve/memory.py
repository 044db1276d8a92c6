"""The memory over REST: a user's slots and the traces of their turns under /v1/memory, described by /openapi.json.

Knows HTTP and what a space can do; values go out as they are (`mam.values`). Whose space it is says the guard.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import islice
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mam.errors import InputError
from mam.reader import Reading
from mam.serve.problems import ANY
from mam.space import LONGEST_QUERY, LONGEST_SLOT, MOST_READ, Space
from mam.values import ACTIVE, STATES, Certificate, Found, Slot, Turn, Version

MOST_IDS = 1_000  # of a purge
MOST_LISTED = 500
PART = 500  # lines of an export that go out at once
JSON_LINES = "application/jsonl"


def whole(value: object) -> object:
    """JSON does not tell 8.0 from 8."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


NO_TEXT = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff"  # what `cleaned` takes out of a text
SOME_TEXT, ALL_TEXT = rf"[^\s{NO_TEXT}]", rf"^[^{NO_TEXT}]*$"
AN_ID = r"^[A-Za-z0-9_-]{1,64}$"
Id = Annotated[str, Path(pattern=AN_ID)]
Text = Annotated[str, Field(min_length=1, max_length=LONGEST_SLOT, pattern=SOME_TEXT)]
Versioned = Annotated[
    int | None, Field(ge=1, lt=1 << 31, description="the version that was looked at"), BeforeValidator(whole)
]


def understood(request: Request) -> None:
    """Raises InputError for a parameter that there is not: whoever misspells one would get something else."""
    known = {parameter.alias for parameter in request.scope["route"].dependant.query_params}
    if unknown := set(request.query_params) - known:
        raise InputError(f"There is no parameter {min(unknown)!r}; there is {', '.join(sorted(known)) or 'none'}.")


async def space_of(request: Request) -> Space:
    """The space of whoever asks: the one way in which a request reaches a memory."""
    state, user = request.app.state, request.state.user
    if space := state.spaces.opened(user):
        return space
    async with state.hands[user]:
        return await run_in_threadpool(state.spaces.of, user)


async def in_turn(request: Request, m: Annotated[Space, Depends(space_of)]) -> AsyncIterator[Space]:
    """The same for a request that may have to wait for the networks or the disk: one user has not too many of them."""
    async with request.app.state.hands[request.state.user]:
        yield m


Here = Annotated[Space, Depends(space_of)]
Mine = Annotated[Space, Depends(in_turn)]
bearer = HTTPBearer(auto_error=False, description="An API key of `python -m mam key`; the guard checks it")
router = APIRouter(
    prefix="/v1/memory", tags=["memory"], responses=ANY, dependencies=[Depends(bearer), Depends(understood)]
)


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Added(Body):
    text: Text


class Edited(Body):
    text: Text
    version: Versioned = None


class Sought(Body):
    query: Annotated[str, Field(min_length=1, max_length=LONGEST_QUERY, pattern=SOME_TEXT)]
    k: Annotated[int, Field(ge=1, le=MOST_READ), BeforeValidator(whole)] = 8


class Purged(Body):
    ids: Annotated[list[Annotated[str, Field(pattern=AN_ID)]], Field(min_length=1, max_length=MOST_IDS)]


@router.get("/slots")
def list_slots(
    m: Mine,
    state: Annotated[Literal[(*STATES, "all")], Query()] = ACTIVE,
    find: Annotated[str, Query(max_length=LONGEST_QUERY, pattern=ALL_TEXT, description="only those that match")] = "",
    by: Annotated[Literal["text", "words", "reader", "id"], Query(description="how they are found")] = "text",
    offset: Annotated[int, Query(ge=0, le=1 << 31)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 50,
) -> Found:
    """One page of the memories, newest first (found by words or by the reader: best first), and how many there are."""
    return m.find(find, by, None if state == "all" else state, offset=offset, limit=limit)


@router.post("/slots", status_code=201)
def add_slot(m: Mine, added: Added) -> Slot:
    """Keep a text as it is, without asking the write gate."""
    return m.add(added.text)


@router.get("/slots/{id}")
def get_slot(m: Mine, id: Id) -> Slot:
    return m.slot(id)


@router.get("/slots/{id}/versions")
def list_versions(m: Mine, id: Id) -> list[Version]:
    """Everything the memory has been, oldest first."""
    return m.versions(id)


@router.patch("/slots/{id}")
def edit_slot(m: Mine, id: Id, edited: Edited) -> Slot:
    """Give a memory another text, which is read from the next token on; 409 when somebody else was first."""
    return m.edit(id, edited.text, version=edited.version)


@router.delete("/slots/{id}")
def delete_slot(m: Mine, id: Id, version: Annotated[Versioned, Query()] = None) -> Slot:
    """Into the trash: not read from the next token on."""
    return m.delete(id, version=version)


@router.post("/slots/{id}/restore")
def restore_slot(m: Mine, id: Id) -> Slot:
    """Make a deleted, superseded or archived memory active again."""
    return m.restore(id)


@router.post("/purge")
def purge_slots(m: Mine, purged: Purged) -> Certificate:
    """Overwrite memories for good, everywhere under the data folder."""
    return m.purge(*dict.fromkeys(purged.ids))


@router.post("/read")
def read(m: Mine, sought: Sought) -> Reading:
    """What the reader would read for a message, with weights; nothing is said or written."""
    return m.read(sought.query, sought.k)


@router.get("/export", response_class=Response, responses={200: {"content": {JSON_LINES: {}}}})
def export(m: Mine, complete: bool = False) -> StreamingResponse:
    """All memories as JSON lines; complete: with conversations, versions and the trash."""
    lines = m.exported_lines(complete=complete)
    parts = iter(lambda: "".join(islice(lines, PART)), "")  # a line at a time would be a change of threads for each
    return StreamingResponse(parts, media_type=JSON_LINES)


@router.get("/turns/{id}")
def get_turn(m: Mine, id: Id) -> Turn:
    """The trace of a turn: what it read and wrote, with scores, and what exactly the base was given."""
    return m.turn(id)
