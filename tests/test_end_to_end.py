"""The main job, with the real weights: told in one program, asked in the next, changed, deleted, asked again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import mam
from mam.reader import ABSTAIN

TOLD = "My dog is called Biscuit. My sister Anna works as a nurse in Oslo. I have a dentist appointment tomorrow."
ASK = "What is my dog called?"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A data folder in which another program was told a few things, in a session of its own."""
    folder = tmp_path_factory.mktemp("home")
    environment = {name: value for name, value in os.environ.items() if name != "MAM_DTYPE"}
    command = [sys.executable, "-m", "mam", "ask", TOLD, "--path", str(folder), "--session", "Monday"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def opened(home):
    before = os.environ.pop("MAM_DTYPE", None)
    space = mam.open(home)
    yield space
    space.close()
    if before is not None:
        os.environ["MAM_DTYPE"] = before


def test_tell_restart_ask_edit_delete(opened):
    weights = opened.engine.base.weights_hash()
    assert any("Biscuit" in slot.text for slot in opened.slots())

    turn = opened.session("Tuesday").send(ASK, max_tokens=40)
    assert "Biscuit" in turn.reply and turn.reads[0].given and "Biscuit" in turn.reads[0].slot.text

    opened.edit(turn.reads[0].slot.id, "My dog is called Pepper.")
    reply = opened.session("Tuesday").send(ASK, max_tokens=40).reply
    assert "Pepper" in reply and "Biscuit" not in reply

    opened.delete(turn.reads[0].slot.id)
    last = opened.session("Tuesday").send(ASK, max_tokens=40)
    assert last.abstained and last.reply.startswith(ABSTAIN)
    assert "Pepper" not in last.reply and "Biscuit" not in last.reply

    assert "nurse" in opened.session().send("What does my sister do for a living?", max_tokens=40).reply
    assert opened.engine.base.weights_hash() == weights


def test_ordinary_questions_go_to_the_base_alone(opened):
    text = "What is the capital of France?"
    turn = opened.session().send(text, max_tokens=24)
    base = opened.engine.base
    alone = base.decode(base.generate(base.prompt([{"role": "user", "content": text}]), max_tokens=24))
    assert not any(read.given for read in turn.reads) and turn.reply == alone


def test_an_update_told_in_chat_holds_and_the_old_one_stays_visible(opened):
    chat = opened.session("Wednesday")
    chat.send("My cat is called Olive.", max_tokens=8)
    update = chat.send("Actually, my cat is called Juniper now.", max_tokens=8)
    assert [write.relation for write in update.writes] == ["update"]
    assert any("Olive" in slot.text for slot in opened.slots("superseded"))
    reply = opened.session().send("What is my cat called?", max_tokens=40).reply
    assert "Juniper" in reply and "Olive" not in reply


def test_a_restart_gives_the_same_greedy_reply(opened, home):
    ask = "What does my sister do for a living?"
    reply = opened.session().send(ask, max_tokens=24).reply
    again = mam.open(home)
    assert again.session().send(ask, max_tokens=24).reply == reply
    assert again.slots(None) == opened.slots(None)
    again.close()
