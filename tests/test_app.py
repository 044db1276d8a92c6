"""The page in a real browser: telling, asking, stopping, editing in two tabs, and nothing leaves the machine."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import RuleMemory
from pages import DOG, ODD, open_memory, say
from playwright.sync_api import expect

from mam.errors import InputError, StoreError, WeightsError
from mam.space import Space
from mam.store import Store
from mam.web import inside, talk
from mam.web import page as pages
from mam.web.desk import Desk
from mam.web.inside import Inside
from mam.web.serve import launch
from mam.web.talk import Talk


def test_tell_then_ask_in_another_conversation(served, tab):
    page = tab()
    say(page, f"Hello! {DOG}")
    expect(page.locator("#last .written")).to_contain_text(DOG)
    expect(page.locator("#last .rejected")).to_contain_text("Hello!")
    page.locator("#new").click()
    expect(page.locator("#said .exchange")).to_have_count(0)
    say(page, "What is my dog called?")
    expect(page.locator("#last .bar").first).to_contain_text(DOG)
    expect(page.locator("#last .bar.null")).to_contain_text("none of the memories")
    say(page, "What is my horse called?")
    expect(page.locator("#said .it").last).to_contain_text("You haven't told me that.")
    expect(page.locator("#sessions li")).to_have_count(2)
    page.locator("#sessions li button", has_text="Hello!").click()
    expect(page.locator("#said .you")).to_have_count(1)
    assert [session.turns for session in served.space.sessions()] == [2, 1]


def test_a_conversation_is_renamed_put_away_and_found(served, tab):
    for text in (DOG, "My cat is called Tom."):
        served.space.session().send(text, max_tokens=2)
    page = tab()
    row = page.locator("#sessions li", has_text="Rex")
    row.hover()
    row.get_by_role("button", name="Rename").click()
    page.locator("#sessions input").fill("The dog")
    bird = served.space.session().send("My bird is called Kiwi.", max_tokens=2)  # elsewhere, meanwhile
    expect(page.locator("#sessions li")).to_have_count(3)
    expect(page.locator("#sessions input")).to_have_value("The dog")
    page.locator("#sessions input").press("Enter")
    expect(page.locator("#sessions li", has_text="The dog")).to_have_count(1)
    served.space.purge_session(bird.session)
    expect(page.locator("#sessions li")).to_have_count(2)
    page.locator("#find-session input, #find-session textarea").fill("DOG")
    expect(page.locator("#sessions li")).to_have_count(1)
    page.locator("#sessions li").hover()
    page.get_by_role("button", name="Put away").click()
    expect(page.locator("#sessions li")).to_have_count(0)
    page.locator("#away input").check()
    expect(page.locator("#sessions li")).to_contain_text("The dog")
    assert [(s.title, s.archived) for s in served.space.sessions()][1] == ("The dog", True)


def test_nothing_of_a_temporary_conversation_is_kept(served, tab):
    served.space.add(DOG)
    page = tab()
    page.locator("#temporary").click()
    expect(page.locator("#said")).to_contain_text("nothing said in it is kept")
    say(page, "My cat is called Tom.")
    say(page, "What is my dog called?")
    expect(page.locator("#said .exchange")).to_have_count(2)
    expect(page.locator("#last .bar").first).to_contain_text(DOG)
    assert served.space.sessions() == [] and [slot.text for slot in served.space.slots(None)] == [DOG]
    page.locator("#new").click()
    expect(page.locator("#said .exchange")).to_have_count(0)


def test_the_last_message_is_edited_or_answered_again(served, tab):
    page = tab()
    say(page, DOG)
    page.get_by_role("button", name="edit the message").click()
    expect(page.locator("#text textarea")).to_have_value(DOG)
    say(page, "My dog is called Max.")
    expect(page.locator("#said .exchange")).to_have_count(1)
    assert [slot.text for slot in served.space.slots()] == ["My dog is called Max."]
    page.locator("#retry").click()
    expect(page.locator("#stop")).to_be_hidden()
    expect(page.locator("#said .you")).to_have_text("You: My dog is called Max.")
    expect(page.locator("#send")).to_be_visible()
    assert [slot.text for slot in served.space.slots()] == ["My dog is called Max."]


def test_a_past_turn_is_looked_into(served, tab):
    served.space.add(DOG)
    page = tab()
    say(page, "What is my dog called?")
    say(page, "Hello there!")
    expect(page.locator("#said .below").last).to_contain_text("nothing read")
    page.get_by_role("button", name="from memory: 1 slot").click()
    expect(page.locator("#last .bar").first).to_contain_text(DOG)
    page.get_by_text("What decided").click()
    expect(page.locator("#last .decided li").first).to_have_text("worth keeping: from 50 % on")
    page.locator("#whole").click()
    expect(page.locator("#heading .you")).to_have_text("What is my dog called?")
    expect(page.locator("#given")).to_contain_text("tokens of memory")
    expect(page.locator("#heat .hm image")).to_have_count(2)
    expect(page.locator("#parts .bars").first).to_be_visible()
    expect(page.locator("#stages .bars").first).to_be_visible()


def test_what_if_the_memory_had_been_another(served, tab):
    served.space.add(DOG)
    turn = served.space.session().send("What is my dog called?", max_tokens=12)
    page = tab()
    page.locator("#sessions li button").first.click()
    page.get_by_role("tab", name="What if").click()
    expect(page.locator("#was .tokens button").first).to_be_visible()
    expect(page.locator("#bars .bars")).to_have_count(2)
    page.locator("#kept input").uncheck()
    expect(page.locator("#now")).to_contain_text("no memory")
    expect(page.locator("#now .tokens")).to_have_text(served.space.what_if(turn, strength=0).reply)
    page.locator("#reset").click()
    expect(page.locator("#kept input")).to_be_checked()
    page.locator("#was .tokens button").nth(3).click()
    expect(page.locator("#was .tokens button").nth(3)).to_have_attribute("aria-current", "true")
    expect(page.locator("#bars")).to_contain_text("What could have come after")
    slider = page.locator("#knobs input[type=range]").first
    slider.focus()
    for _ in range(8):
        slider.press("ArrowLeft")
    expect(page.locator("#was .tokens button[title='0.00 nats']")).not_to_have_count(len(turn.reply))
    assert [t.id for t in served.space.turns(turn.session)] == [turn.id]


def test_one_question_is_compared_five_ways(served, tab, monkeypatch):
    monkeypatch.setattr("mam.compare._minilm", RuleMemory)
    served.space.add(DOG)
    page = tab()
    page.get_by_role("tab", name="Compare").click()
    page.locator("#question textarea").fill("What is my dog called?")
    page.locator("#compare").click()
    expect(page.locator("#cards .card .cost")).to_have_count(5)
    expect(page.locator("#cards .card.own .cost")).to_contain_text("of them memory")
    assert served.space.sessions() == []


def test_the_guided_tour_leaves_the_own_memory_alone(served, tab):
    served.space.add(DOG)
    page = tab()
    page.locator("#tour-start").click()
    expect(page.locator("#tour-words")).to_contain_text("1 of 9", timeout=60_000)
    expect(page.locator("#sessions li")).to_have_count(4)
    expect(page.locator("#text textarea")).to_have_value(re.compile("bicycle"))
    page.locator("#send").click()
    expect(page.locator("#stop")).to_be_hidden()
    expect(page.locator("#last .written")).to_contain_text("dark green")
    page.locator("#tour-next").click()
    expect(page.locator("#said .exchange")).to_have_count(0)
    page.locator("#tour-next").click()
    expect(page.get_by_role("tab", name="Inside a turn")).to_have_attribute("aria-selected", "true")
    page.locator("#tour-reset").click()
    expect(page.locator("#tour-words")).to_contain_text("1 of 9", timeout=60_000)
    expect(page.locator("#sessions li")).to_have_count(4)
    page.locator("#tour-leave").click()
    expect(page.locator("#tour")).to_be_hidden()
    expect(page.locator("#sessions li")).to_have_count(0)
    open_memory(page)
    expect(page.locator("#slots .text")).to_have_text(DOG)
    assert served.space.sessions() == [] and [slot.text for slot in served.space.slots(None)] == [DOG]


def test_what_people_say_is_shown_as_it_is(served, tab):
    page = tab()
    say(page, ODD)
    expect(page.locator("#said .you")).to_contain_text("${1+1} {{value}} `tick`")
    expect(page.locator("#last .written")).to_contain_text("<img src=")
    assert page.locator("#desk img").count() == 0 and page.evaluate("window.hacked") is None


def test_stop_ends_the_reply(served, tab, monkeypatch):
    from mam.chat import Reply

    def endless(self):
        while not self.stop.wait(0.05):
            self.text += "word "
            yield "word "

    monkeypatch.setattr(Reply, "pieces", endless)
    page = tab()
    page.locator("#text textarea").fill(DOG)
    page.locator("#text textarea").press("Enter")
    expect(page.locator("#said .it")).to_contain_text("word word")
    page.locator("#stop").click()
    expect(page.locator("#said .below")).to_contain_text("stopped")
    expect(page.locator("#send")).to_be_visible()
    (turn,) = served.space.turns(served.space.sessions()[0].id)
    assert turn.stopped and turn.reply.startswith("word") and turn.writes


def test_another_conversation_is_opened_before_the_reply_is_done(served, tab, monkeypatch):
    """It goes on where it was begun, and never shows up in the other one."""
    from mam.chat import Reply

    go_on = threading.Event()

    def slow(self):
        self.text = "word "
        yield "word "
        go_on.wait(20)
        self.text += "end"
        yield "end"

    monkeypatch.setattr(Reply, "pieces", slow)
    page = tab()
    page.locator("#text textarea").fill(DOG)
    page.locator("#send").click()
    expect(page.locator("#said .it")).to_contain_text("word")
    page.locator("#new").click()
    expect(page.locator("#said .exchange")).to_have_count(0)
    go_on.set()
    expect(page.locator("#stop")).to_be_hidden()
    expect(page.locator("#said .exchange")).to_have_count(0)
    page.locator("#sessions li button").first.click()
    expect(page.locator("#said .it")).to_have_text("Reply: word end")
    expect(page.locator("#said .below")).to_be_visible()


def test_a_conversation_opened_as_a_reply_ends_is_not_drawn_over(served, tab, monkeypatch):
    from mam.web.talk import Talk

    said, close = Talk._said, threading.Event()

    def slow_to_end(self, *args, **manner):
        yield from said(self, *args, **manner)
        close.wait(20)

    monkeypatch.setattr(Talk, "_said", slow_to_end)
    page = tab()
    page.locator("#text textarea").fill(DOG)
    page.locator("#send").click()
    expect(page.locator("#said .below")).to_be_visible()
    page.locator("#new").click()
    expect(page.locator("#said .exchange")).to_have_count(0)
    close.set()
    expect(page.locator("#stop")).to_be_hidden()
    expect(page.locator("#said .exchange")).to_have_count(0)


def test_a_conversation_opened_while_the_log_is_drawn_anew_is_not_drawn_over(served, tab, monkeypatch):
    from mam.web import talk

    draw, begun, drawn = talk.conversation, threading.Event(), threading.Event()

    def slow(turns):
        begun.set()
        drawn.wait(20)
        return draw(turns)

    page = tab()
    say(page, DOG)
    monkeypatch.setattr(talk, "conversation", slow)
    served.space.add("I love tea.")  # elsewhere: the page follows
    assert begun.wait(20)
    page.locator("#new").click()
    page.wait_for_timeout(500)
    drawn.set()
    expect(page.locator("#said .exchange")).to_have_count(0)
    page.wait_for_timeout(500)
    expect(page.locator("#said .exchange")).to_have_count(0)


def test_a_closed_tab_ends_the_reply_and_keeps_it(served, tab, monkeypatch):
    from mam.chat import Reply

    ended = threading.Event()

    def endless(self):
        try:
            while not self.stop.wait(0.05):
                self.text += "word "
                yield "word "
        finally:
            ended.set()

    monkeypatch.setattr(Reply, "pieces", endless)
    page = tab()
    page.locator("#text textarea").fill(DOG)
    page.locator("#send").click()
    expect(page.locator("#said .it")).to_contain_text("word word")
    page.goto("about:blank")
    assert ended.wait(20)


def test_errors_are_said_in_a_toast(served, tab):
    page = tab()
    page.locator("#send").click()
    expect(page.locator(".toast-body")).to_contain_text("write something first")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_system_theme(served, browser, scheme):
    page = browser.new_page(color_scheme=scheme)
    page.goto(served.url)
    expect(page.locator("#name h1")).to_be_visible()
    red, *_ = map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert red > 200 if scheme == "light" else red < 60
    page.close()


def test_the_page_opens_while_the_networks_load_and_says_when_they_cannot(tmp_path, engine, browser):
    ready, broken = threading.Event(), []

    def slowly(user, memory):
        ready.wait(30)
        if broken:
            raise WeightsError("The weights are missing; install mam again.")
        return Space(Store(tmp_path, user), engine)

    for failing in (False, True):
        ready.clear()
        broken[:] = [1] * failing
        blocks = launch(Desk(slowly, "ann", "tiny-base"), None, quiet=True)
        page = browser.new_page()
        page.goto(blocks.local_url)
        expect(page.locator("#status")).to_contain_text("Loading tiny-base")
        page.locator("#text textarea").fill(DOG)
        page.locator("#send").click()
        expect(page.locator(".toast-body")).to_contain_text("still loading")
        expect(page.locator("#text textarea")).to_have_value(DOG)
        ready.set()
        expect(page.locator("#status")).to_contain_text("weights are missing" if failing else "rules")
        page.close()
        blocks.close()


@pytest.fixture
def chats(desk):
    """The handlers of the chat, and who asks."""
    return Talk(desk), SimpleNamespace(username="ann", session_hash="tab")


def test_what_was_said_before_stays_while_a_reply_is_spoken(chats):
    talk, ann = chats
    steps = list(talk.send(DOG, None, False, ann))
    session = next(step[0] for step in steps if isinstance(step[0], str))
    logs = [step[1] for step in talk.send("My cat is called Tom.", session, False, ann) if isinstance(step[1], str)]
    assert len(logs) > 2 and all(DOG in log for log in logs)


@pytest.mark.parametrize("again", [False, True])
def test_a_message_that_could_not_be_answered_is_in_its_box_and_replaces_no_other(chats, monkeypatch, again):
    talk, ann = chats
    session = next(step[0] for step in talk.send(DOG, None, False, ann) if isinstance(step[0], str))
    list(talk.send("My cat is called Tom.", session, False, ann))

    def full(*_):
        raise StoreError("The disk is full.")

    monkeypatch.setattr(Space, "consult", full)
    steps, text = [], "My cat is called Tom." if again else "My cat is called Tim."
    with pytest.raises(StoreError):
        steps.extend(talk.again(session, ann) if again else talk.send(text, session, True, ann))
    assert steps[-1][5:] == (text, False) and steps[-1][2] == ""
    assert [turn.text for turn in talk.desk.chat(session, ann).turns()] == [DOG]


def test_users_only_reach_what_is_theirs(tmp_path, engine):
    desk = Desk(lambda user, memory: Space(Store(tmp_path, user), engine), "ann")
    desk._load()
    ann, bob = (SimpleNamespace(username=name, session_hash="same") for name in ("ann", "bob"))
    slot = desk.space(ann).add(DOG)
    chat = desk.space(ann).session("Monday")
    chat.send(DOG, max_tokens=4)
    chats = Talk(desk)
    turn = chat.turns()[0].id
    for act in ("open", "rename", "archive", "restore"):
        with pytest.raises(InputError):
            chats.sessions(SimpleNamespace(act=act, session=chat.id, title="forged"), None, "", False, bob)
    for forged in (
        lambda: list(chats.send("What is my dog called?", chat.id, False, bob)),
        lambda: list(chats.again(chat.id, bob)),
        lambda: chats.line(SimpleNamespace(act="look", turn=turn), None, bob),
        lambda: chats.line(SimpleNamespace(act="edit", turn=turn), chat.id, bob),
        lambda: Inside(desk).look(turn, bob),
        lambda: Inside(desk).picked(SimpleNamespace(pick=slot.id), bob),
    ):
        with pytest.raises(InputError):
            forged()
    inside = Inside(desk)
    assert inside.plots(turn, "inside", False, (), ann)[2][0].text == DOG
    assert inside.plots(turn, "inside", False, (), bob) == ("", "", (None, False))
    assert inside.heat_map(turn, "inside", False, (), bob) == ("", "", (None, False))
    secret = chats.begin_temporary(None, "", False, ann)[0]
    list(chats.send("My cat is called Tom.", secret, False, ann))
    whispered = desk.chat(secret, ann).turns()[0].id
    assert desk.turn(whispered, ann).text == "My cat is called Tom." and len(desk.space(ann).sessions()) == 1
    for forged in (lambda: desk.chat(secret, bob), lambda: desk.turn(whispered, bob)):
        with pytest.raises(InputError):
            forged()
    desk.closed(ann)  # the tab, and with it what was nowhere else
    for gone in (lambda: desk.chat(secret, ann), lambda: desk.turn(whispered, ann)):
        with pytest.raises(InputError):
            gone()
    assert desk.space(ann).session(chat.id).turns()[-1].text == DOG
    assert desk.space(ann).slot(slot.id).text == DOG


def test_views_escape_whatever_they_show():
    from dataclasses import replace
    from datetime import UTC, datetime

    from mam.values import Archived, Candidate, Read, Session, Slot, Turn, Write

    bad, now = "<script>&\"'", datetime.now(UTC)
    slot = Slot(bad, bad, bad + "x", bad, now, version=2)
    turn = Turn(
        bad, bad, bad, bad, now, (Write(slot, 0.9, "new"),), (Candidate(bad, bad, score=0.1, why=bad),),
        (Read(slot, 0.5, {bad: 1.0}), Read(slot, 0.1, {}, False)), 0.4, timing={"first_token": 1.0, "reply": 1.0},
    )  # fmt: skip
    told = ({"messages": [{"role": bad, "content": bad}]},)
    turn = replace(turn, archived=(Archived(slot, -1.0, {bad: -1.0}),), base=bad, sent=told)
    shown = inside.panel(turn) + inside.heading(turn) + inside.given(turn, 3, 4) + talk.conversation([turn])
    shown += talk.sessions([Session(bad, bad, now, 1)], None) + pages.status(None, bad)
    shown += pages.status(dict.fromkeys(("base", "memory", "device", "precision", "memories as"), bad), "")
    assert "<script>" not in shown and "&\"'" not in shown


def test_app_explains_a_taken_port_and_help_is_quick(tmp_path, engine):
    blocks = launch(Desk(lambda user, memory: Space(Store(tmp_path, user), engine), "ann"), None, quiet=True)
    with pytest.raises(InputError, match="is taken"):
        launch(Desk(lambda user, memory: Space(Store(tmp_path, user), engine), "ann"), blocks.server_port, quiet=True)
    blocks.close()
    app = Path(__file__).parent.parent / "app.py"
    done = subprocess.run([sys.executable, app, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--no-browser" in done.stdout
