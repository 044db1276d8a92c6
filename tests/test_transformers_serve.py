"""A base behind `transformers serve`: somebody else's server, which knows nothing of mam."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from fakes import RuleMemory

import mam
from mam import fetch
from mam.endpoint import Endpoint
from mam.engine import Engine
from mam.errors import EndpointError
from mam.reader import ABSTAIN
from mam.space import Space
from mam.store import Store

PATIENCE = 120  # seconds until it has started
ASK = "What is my dog called?"
TALK = "Name three colours of the rainbow."


@contextmanager
def serving(folder: Path, log: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """The id of the base in `folder`, on a server of its own, and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", folder, "--host", "127.0.0.1"]
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    with log.open("wb") as output:
        server = subprocess.Popen([*command, "--port", str(port)], stdout=output, stderr=output, env=offline)
    try:
        for _ in range(PATIENCE * 5):
            if server.poll() is not None or _answers(f"http://127.0.0.1:{port}/health"):
                break
            time.sleep(0.2)
        assert server.poll() is None, log.read_text()
        yield f"openai:{folder}@http://127.0.0.1:{port}/v1", server
    finally:
        server.terminate()
        server.wait(30)


def _answers(url: str) -> bool:
    try:
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=1).status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def address(tiny_folder, tmp_path_factory):
    with serving(tiny_folder, tmp_path_factory.mktemp("serve") / "log.txt") as (id, _):
        yield id


@pytest.fixture
def m(address, tmp_path):
    """The tiny base on a server, and a memory model that goes by rules."""
    space = Space(Store(tmp_path, "ann"), Engine(Endpoint(address), RuleMemory(), None))
    yield space
    space.close()


def test_nothing_read_is_the_server_alone(m, address, tiny_base):
    m.add("My dog is called Rex.")
    turn = m.session().send(TALK, max_tokens=24)
    assert not any(read.given for read in turn.reads) and turn.reply
    client = openai.OpenAI(base_url=address.partition("@")[2], api_key="none")
    said = [{"role": "user", "content": TALK}]
    alone = client.chat.completions.create(model=m.engine.base.name, messages=said, max_tokens=24, temperature=0)
    assert turn.reply == alone.choices[0].message.content
    assert turn.reply == tiny_base.decode(tiny_base.generate(tiny_base.prompt(said), max_tokens=24))


def test_what_is_read_is_told(m, tiny_base):
    m.add("My dog is called Rex.")
    turn = m.session().send(ASK, max_tokens=24)
    assert "Rex" in str(turn.sent) and not turn.stopped
    prompt = tiny_base.prompt(turn.sent[0]["messages"])
    here = tiny_base.decode(tiny_base.generate(prompt, max_tokens=24))
    assert here.rstrip("\ufffd") in (turn.reply, turn.reply.rstrip("\ufffd"))  # it keeps half a character to itself


def test_a_reply_can_be_stopped(m):
    stop = threading.Event()
    for event in m.session().stream(TALK, max_tokens=400, stop=stop):
        if event.kind == "token":
            stop.set()
    assert event.data.stopped and 0 < len(event.data.reply) < 200


def test_a_server_that_is_killed_in_mid_reply_keeps_what_was_said_and_told(tiny_folder, tmp_path):
    with serving(tiny_folder, tmp_path / "log.txt") as (address, server):
        engine = Engine(Endpoint(address, timeout=20, retries=0), RuleMemory(), None)
        m = Space(Store(tmp_path / "data", "ann"), engine)
        chat, heard = m.session(), ""
        with pytest.raises(EndpointError, match="broke off in mid-reply"):
            for event in chat.stream("My dog is called Rex.", max_tokens=400):
                if event.kind == "token":
                    heard += event.data
                    server.kill()
        (turn,) = chat.turns()
        assert turn.reply == heard != "" and turn.stopped
        assert [slot.text for slot in m.slots()] == ["My dog is called Rex."]
        with pytest.raises(EndpointError, match="cannot be reached"):
            m.session().send(TALK)
        m.close()


def test_it_remembers_for_the_default_base_on_a_server(tmp_path, monkeypatch):
    monkeypatch.delenv("MAM_DTYPE")
    with serving(fetch.base(), tmp_path / "log.txt") as (address, _):
        m = mam.open(tmp_path / "data", base=address, device="cpu")
        m.session("Monday").send("My dog is called Biscuit. My sister Anna works as a nurse in Oslo.", max_tokens=8)
        asked = m.session("Tuesday").send(ASK, max_tokens=40)
        dog = asked.reads[0].slot
        assert asked.reads[0].given and "Biscuit" in dog.text and "Biscuit" in str(asked.sent)
        assert "Biscuit" in asked.reply
        m.edit(dog.id, "My dog is called Pepper.")
        again = m.session("Tuesday").send(ASK, max_tokens=40)
        assert "Pepper" in str(again.sent) and "Biscuit" not in str(again.sent)
        assert "Pepper" in again.reply and "Biscuit" not in again.reply
        m.delete(dog.id)
        last = m.session("Tuesday").send(ASK, max_tokens=40)
        assert last.reply == ABSTAIN and last.sent == ()
        m.close()
