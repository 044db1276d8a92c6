"""The main job, with the real weights: told in one program, asked in the next, changed, deleted, asked again."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime

import pytest

import mam
from mam.dates import resolve
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


@pytest.fixture
def fresh(opened, tmp_path):
    """An empty memory."""
    space = mam.open(tmp_path)
    yield space
    space.close()


KEPT = [
    "I love hiking in the mountains.",
    "I am allergic to peanuts.",
    "We are moving to Lisbon in May.",
    "My favourite colour is teal.",
    "I can't stand jazz.",
]
NOT_KEPT = [
    "Hello there!",
    "Good morning! How are you?",
    "What is the weather like in Rome?",
    "Could you explain photosynthesis?",
    "Tell me a joke about penguins.",
    "Write an essay about whales.",
    "Ha, that is funny.",
    "Thanks, you are great.",
    "ok",
]
INVENTED = [
    "I have a cat called Whiskers.",
    "Your dog sounds lovely!",
    "I am a large language model and live in the cloud.",
]


def test_what_lasts_is_kept_and_nothing_else(fresh):
    chat = fresh.session("Monday")
    for text in (*KEPT, *NOT_KEPT):
        chat.observe(text)
    for text in INVENTED:
        chat.observe(text, "assistant")
    assert [slot.text for slot in fresh.slots()] == KEPT


def test_what_is_told_again_is_kept_once(fresh):
    chat = fresh.session("Monday")
    for text in ("My favourite colour is teal.", "I am allergic to peanuts.", "My dog is called Rex."):
        chat.observe(text)
    for text in ("My favourite colour is teal.", "I'm allergic to peanuts.", "My dog's name is Rex."):
        writes, _ = chat.observe(text)
        assert [write.relation for write in writes] == ["duplicate"], text
    assert len(fresh.slots()) == 3


def test_a_slot_says_whom_and_when_it_means(fresh):
    chat, today = fresh.session("Monday"), datetime.now().astimezone()
    for text in ("My sister Anna lives in Oslo.", "Actually she moved to Bergen.", "She has an exam next Friday."):
        chat.observe(text, at=today)
    moved, exam = fresh.slots()
    assert moved.text == "Actually my sister Anna moved to Bergen."
    assert exam.text == resolve("My sister Anna has an exam next Friday.", today)[0]
    assert [slot.text for slot in fresh.slots("superseded")] == ["My sister Anna lives in Oslo."]


def test_several_slots_are_read_at_once(fresh):
    chat = fresh.session("Monday")
    for text in ("My favourite fruits are figs.", "My sister is a nurse.", "I also like mangoes a lot."):
        chat.observe(text)
    turn = fresh.session("Tuesday").send("Which fruits do I like?", max_tokens=40)
    assert len([read for read in turn.reads if read.given]) == 2
    assert "figs" in turn.reply and "mango" in turn.reply


def test_a_question_about_me_is_heard_before_and_behind_a_long_text(fresh):
    fresh.add("My dog is called Rex.")
    text = "The old lighthouse was built of grey granite that ships had carried from the far side of the bay. " * 12
    for message in (f"{text}\n\nWhat is my dog called?", f"What is my dog called?\n\n{text}"):
        turn = fresh.session(temporary=True).send(message, max_tokens=4)
        assert [read.slot.text for read in turn.reads if read.given] == ["My dog is called Rex."]
    assert not [read for read in fresh.session(temporary=True).send(text, max_tokens=4).reads if read.given]


def test_a_restart_gives_the_same_greedy_reply(opened, home):
    ask = "What does my sister do for a living?"
    reply = opened.session().send(ask, max_tokens=24).reply
    again = mam.open(home)
    assert again.session().send(ask, max_tokens=24).reply == reply
    assert again.slots(None) == opened.slots(None)
    again.close()
