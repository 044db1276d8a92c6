"""A base behind `transformers serve`: somebody else's server, with the default base's real weights."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import openai
import pytest

import mam
from mam import fetch
from mam.reader import ABSTAIN

PATIENCE = 120  # seconds until it has started
TALK = "Name three colours of the rainbow."


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The id of a base that is the default one, on a server."""
    folder, log = fetch.base(), tmp_path_factory.mktemp("serve") / "log.txt"
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
        yield f"openai:{folder}@http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


def _answers(url: str) -> bool:
    try:
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=1).status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def m(address, tmp_path):
    space = mam.open(tmp_path, base=address, device="cpu")
    yield space
    space.close()


def test_it_remembers_for_a_base_on_a_server(m):
    chat = m.session("Monday")
    told = chat.send("My dog is called Rex, and my sister Anna works as a nurse.", max_tokens=8)
    assert any("Rex" in write.slot.text for write in told.writes)
    asked = m.session("Friday").send("What is my dog called?", max_tokens=40)
    assert "Rex" in next(read for read in asked.reads if read.given).slot.text
    assert "Rex" in asked.sent[0]["messages"][0]["content"] and "Rex" in asked.reply and not asked.stopped
    dog = next(read.slot.id for read in asked.reads if "Rex" in read.slot.text)
    assert "Rex" not in m.without(asked, [dog])[0]
    m.edit(dog, "My dog is called Max.")
    again = m.session("Friday").send("What is my dog called?", max_tokens=40)
    assert "Max" in again.reply and "Rex" not in again.reply
    unknown = m.session("Sunday").send("What is the name of my landlord?", max_tokens=40)
    assert unknown.reply == ABSTAIN and unknown.sent == ()


def test_nothing_read_is_the_server_alone(m, address):
    m.add("My dog is called Rex.")
    turn = m.session().send(TALK, max_tokens=24)
    assert not any(read.given for read in turn.reads)
    client = openai.OpenAI(base_url=address.partition("@")[2], api_key="none")
    alone = client.chat.completions.create(
        model=m.engine.base.name, messages=[{"role": "user", "content": TALK}], max_tokens=24, temperature=0
    )
    assert turn.reply == alone.choices[0].message.content


def test_a_reply_can_be_stopped(m):
    stop = threading.Event()
    for event in m.session().stream(TALK, max_tokens=200, stop=stop):
        if event.kind == "token":
            stop.set()
    assert event.data.stopped and 0 < len(event.data.reply) < 200
