"""The memory as MCP tools, through the official client: over HTTP, over stdin and stdout, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import httpx2
import pytest
from fakes import rule_engine
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from mam.errors import StoreError

DOG = "My dog is called Rex."
TOOLS = {"list", "read", "get", "add", "edit", "delete", "restore", "purge", "export"}


def over_http(service, name: str = "ann") -> Client:
    headers = {"Authorization": f"Bearer {service.keys.get(name, name)}"}
    http = httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60)
    return Client(streamable_http_client(f"{service.url}/mcp", http_client=http))


async def done(client: Client, tool: str, **arguments):
    """What a tool returns; the message where it fails."""
    result = await client.call_tool(f"memory_{tool}", arguments)
    if result.is_error:
        return result.content[0].text
    structured = result.structured_content
    return structured["result"] if set(structured) == {"result"} else structured


async def everything(client: Client) -> None:
    """Each tool once, on an empty memory."""
    assert {tool.name for tool in (await client.list_tools()).tools} == {f"memory_{name}" for name in TOOLS}
    slot = await done(client, "add", text=DOG)
    id = slot["id"]
    assert slot["text"] == DOG and (await done(client, "list"))["slots"] == [slot]
    assert await done(client, "get", id=id) == slot
    reading = await done(client, "read", query="What is my dog called?")
    assert reading["decision"] == "read" and reading["reads"][0]["slot"]["id"] == id
    assert (await done(client, "edit", id=id, text="My dog is called Max.", version=1))["version"] == 2
    assert "version 2" in await done(client, "edit", id=id, text="Too late.", version=1)
    assert (await done(client, "delete", id=id))["state"] == "deleted"
    assert (await done(client, "list"))["total"] == 0
    assert (await done(client, "restore", id=id))["state"] == "active"
    lines = (await done(client, "export")).splitlines()
    assert json.loads(lines[1])["text"] == "My dog is called Max."
    assert (await done(client, "purge", ids=[id]))["slots"] == [id]
    assert "There is no memory" in await done(client, "get", id=id)


def test_every_tool_over_http(service):
    async def talk() -> None:
        async with over_http(service) as client:
            await everything(client)

    asyncio.run(talk())
    assert not service.space("ann").slots(None)


def test_users_are_apart_and_keys_are_asked_for(service):
    slot = service.space("ann").add(DOG)

    async def talk() -> None:
        async with over_http(service, "bob") as client:
            assert (await done(client, "list", state="all"))["total"] == 0
            for tool, more in (("get", {}), ("edit", {"text": "x"}), ("delete", {}), ("restore", {})):
                assert "There is no memory" in await done(client, tool, id=slot.id, **more)
            assert "There is no memory" in await done(client, "purge", ids=[slot.id])
        async with over_http(service, "ann") as client:
            assert await done(client, "get", id=slot.id)
        with pytest.raises(Exception):  # noqa: B017  the client's own, of several kinds
            async with over_http(service, "wrong") as client:
                await client.list_tools()

    asyncio.run(talk())
    assert service.space("ann").slot(slot.id) == slot


def test_a_tool_that_fails_says_why_and_nothing_else(service, engine, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("secret detail")

    def locked(*args):
        raise StoreError("/secret/place is in use by another program")

    async def talk() -> None:
        async with over_http(service) as client:
            assert "nothing in this message" in await done(client, "add", text=" \n ")
            for wrong in ({"text": ""}, {"text": "x" * 2001}, {}):
                assert "text" in await done(client, "add", **wrong)
            monkeypatch.setattr(engine.memory, "encode", broken)
            message = await done(client, "add", text=DOG)
            assert "secret" not in message and "Traceback" not in message
            monkeypatch.setattr(service.space("ann"), "slot", locked)
            message = await done(client, "get", id="x")
            assert "secret" not in message and "Nothing stored was lost" in message

    asyncio.run(talk())


def stdio_server() -> None:
    """What the test below starts: `python -m mam mcp` with the rule-based memory."""
    from mam import cli
    from mam.space import Space
    from mam.store import Store

    engine = rule_engine(Path(sys.argv[2]))
    cli.open_space = lambda options: Space(Store(options.path, options.user), engine)
    sys.exit(cli.main(["mcp", "--path", sys.argv[3], "--user", "ann"]))


def test_every_tool_over_stdin_and_stdout(tiny_folder, tmp_path):
    here = Path(__file__).parent
    command = "import sys; sys.path.insert(0, sys.argv[1]); import test_serve_mcp; test_serve_mcp.stdio_server()"
    server = StdioServerParameters(
        command=sys.executable,
        args=["-c", command, str(here), str(tiny_folder), str(tmp_path / "data")],
        env={**os.environ, "PYTHONPATH": str(here.parent)},
    )

    async def talk() -> None:
        async with Client(server) as client:
            await everything(client)
            await done(client, "add", text=DOG)
        async with Client(server) as client:  # another process, the same memory
            assert (await done(client, "list"))["slots"][0]["text"] == DOG

    asyncio.run(talk())
