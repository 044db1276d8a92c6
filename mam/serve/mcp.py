"""The memory as tools of the Model Context Protocol, over HTTP (/mcp) and over stdin and stdout.

    python -m mam mcp         for a client that starts the server itself
    python -m mam serve       has the same tools at /mcp, for the user whose key comes with the request

Knows the protocol's words for what a space can do; the same operations as REST has them (`memory`).
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Annotated, Literal

from anyio import to_thread
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from mam import cli
from mam.errors import MamError
from mam.reader import Reading
from mam.serve.memory import AN_ID, MOST_IDS, MOST_LISTED
from mam.serve.problems import line
from mam.space import LONGEST_QUERY, LONGEST_SLOT, MOST_READ, Space
from mam.values import ACTIVE, STATES, Certificate, Found, Slot

ABOUT = (
    "What a person has told, as addressable memories. Look things up with memory_read before answering from memory; "
    "what is deleted goes to a trash, what is purged is gone for good."
)

Id = Annotated[str, Field(pattern=AN_ID, description="id of a memory")]
Text = Annotated[str, Field(min_length=1, max_length=LONGEST_SLOT)]
Query = Annotated[str, Field(max_length=LONGEST_QUERY)]
Versioned = Annotated[int | None, Field(ge=1, description="fails if it is not at this version any more")]


def tools(
    space_of: Callable[[Context], Space], turn: Callable[[Context], AbstractAsyncContextManager] = nullcontext
) -> MCPServer:
    """A server of the memory's tools. space_of: the space of whoever makes the request of this context; turn: held
    while it is done, in a thread."""
    server = MCPServer("mam", title="Memory as a Model", instructions=ABOUT, log_level="WARNING")

    def tool(*, reads: bool = False, destroys: bool = False) -> Callable:
        hints = ToolAnnotations(read_only_hint=reads, destructive_hint=destroys, open_world_hint=False)

        def register(function: Callable) -> Callable:
            @functools.wraps(function)
            async def plainly(*, ctx: Context, **asked):
                try:
                    async with turn(ctx):
                        return await to_thread.run_sync(functools.partial(function, ctx, **asked))
                except MamError as error:
                    raise ToolError(line(error)) from error

            return server.tool(annotations=hints)(plainly)

        return register

    @tool(reads=True)
    def memory_list(
        ctx: Context,
        find: Query = "",
        by: Literal["text", "words", "reader", "id"] = "text",
        state: Literal[(*STATES, "all")] = ACTIVE,
        offset: Annotated[int, Field(ge=0, le=1 << 31)] = 0,
        limit: Annotated[int, Field(ge=1, le=MOST_LISTED)] = 50,
    ) -> Found:
        """One page of the memories that match, newest or best first, and how many there are."""
        return space_of(ctx).find(find, by, None if state == "all" else state, offset=offset, limit=limit)

    @tool(reads=True)
    def memory_read(ctx: Context, query: Query, k: Annotated[int, Field(ge=1, le=MOST_READ)] = 8) -> Reading:
        """What the memory holds on a question, each with its weight. decision "abstain": it was never told."""
        return space_of(ctx).read(query, k)

    @tool(reads=True)
    def memory_get(ctx: Context, id: Id) -> Slot:
        """One memory."""
        return space_of(ctx).slot(id)

    @tool()
    def memory_add(ctx: Context, text: Text) -> Slot:
        """Remember a text as it is. One fact each, in a sentence that stands alone, as the person would say it."""
        return space_of(ctx).add(text)

    @tool(destroys=True)
    def memory_edit(ctx: Context, id: Id, text: Text, version: Versioned = None) -> Slot:
        """Give a memory another text; the older versions are kept."""
        return space_of(ctx).edit(id, text, version=version)

    @tool(destroys=True)
    def memory_delete(ctx: Context, id: Id, version: Versioned = None) -> Slot:
        """Put a memory into the trash; memory_restore brings it back."""
        return space_of(ctx).delete(id, version=version)

    @tool()
    def memory_restore(ctx: Context, id: Id) -> Slot:
        """Make a deleted, replaced or archived memory count again."""
        return space_of(ctx).restore(id)

    @tool(destroys=True)
    def memory_purge(ctx: Context, ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_IDS)]) -> Certificate:
        """Overwrite memories for good; they cannot be brought back."""
        return space_of(ctx).purge(*dict.fromkeys(ids))

    @tool(reads=True)
    def memory_export(ctx: Context, complete: bool = False) -> str:
        """All memories as JSON lines; complete: with conversations, versions and the trash."""
        return space_of(ctx).exported(complete=complete)

    return server


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cli.add_shared(parser)


def run(options: argparse.Namespace) -> int:
    """Over stdin and stdout, until the client closes them."""
    space = cli.open_space(options)
    tools(lambda _: space).run("stdio")
    space.close()
    return 0
