"""Memories as text: for a base on a server, and for one here whose layers cannot carry slot blocks."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import chats
import gradio as gr
import pytest
import torch
from conftest import tiny_config
from fakes import RuleMemory, rule_engine
from hypothesis import given as each
from hypothesis import strategies as st
from test_architectures import RECURRENT, made
from transformers import Qwen3Config

import mam
from mam import base as bases
from mam import engine as engines
from mam import notes
from mam.cli import main
from mam.compare import WAYS, compare
from mam.endpoint import Endpoint
from mam.engine import Engine
from mam.errors import EndpointError, InputError, UnattachedError
from mam.model import MemoryModel
from mam.prompt import sizes
from mam.reader import ABSTAIN
from mam.space import Space
from mam.store import Store
from mam.values import Read, Turn
from mam.web.here import INSIDE, WHAT_IF
from mam.web.inside import Inside
from mam.web.inside import given as shown
from mam.web.page import status
from mam.web.report import certificate
from mam.web.slot import SlotPage
from mam.web.talk import Talk
from mam.web.training import Training
from mam.web.whatif import WhatIf

SHORT = {"max_tokens": 12}
DOG, CAT = "My dog is called Rex.", "My cat is called Tom."
ASK = "What is my dog called?"
BOTH = "my dog, dog, dog, my cat, cat"  # reads both, the dog more
TALK = "Tell a story about mountains."


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@pytest.fixture
def server():
    with chats.running() as server:
        yield server


@pytest.fixture
def engine(server):
    """A base on a server, and a memory model that goes by rules."""
    torch.set_num_threads(1)
    return Engine(Endpoint(server.base, timeout=5, retries=0), RuleMemory(), None)


def told(m: Space, *texts: str) -> list[str]:
    return [m.add(text).id for text in texts]


# -- what is sent --------------------------------------------------------------------------------------------------


def test_nothing_read_sends_the_users_messages_and_nothing_else(m, server):
    told(m, DOG)
    chat = m.session()
    first = chat.send(TALK, **SHORT)
    assert not any(read.given for read in first.reads)
    assert server.messages == [user(TALK)] and first.reply == f"You say: {TALK}"
    second = chat.send("And another one.", **SHORT)
    history = [user(TALK), {"role": "assistant", "content": first.reply}]
    assert server.messages == [*history, user("And another one.")]
    assert [first.sent, second.sent] == [(body,) for body in server.bodies]


def test_what_is_read_goes_before_the_message_heaviest_first(m, server):
    told(m, CAT, DOG)
    turn = m.session().send(BOTH, **SHORT)
    assert [read.slot.text for read in turn.reads if read.given] == [DOG, CAT]
    lead, taken, asked = server.messages
    assert lead == user(f"{notes.LEAD}\n- {DOG}\n- {CAT}") and taken["role"] == "assistant"
    assert asked == user(turn.text) and turn.reply == f"You told me: {DOG}"


def test_the_trace_and_the_inspector_show_exactly_what_was_sent(m, server):
    told(m, DOG)
    turn = m.session().send(ASK, max_tokens=12, temperature=0.7, seed=5)
    assert list(turn.sent) == server.bodies == list(m.turn(turn.id).sent)
    assert turn.base == chats.MODEL and turn.given.startswith("[0.") and all(
        message["content"] in turn.given for message in server.messages
    )  # fmt: skip
    memory, prompt = sizes(m.engine.base, None, turn)
    assert memory > prompt > 0
    page = shown(turn, memory, prompt)
    assert "The request, word by word" in page and "&quot;seed&quot;: 5" in page and "Rex" in page


def test_an_abstention_sends_nothing(m, server):
    told(m, DOG)
    turn = m.session().send("What is my horse called?", **SHORT)
    assert turn.abstained and turn.reply == ABSTAIN and turn.sent == () and server.bodies == []


def test_writing_works_as_before(m, server):
    turn = m.session().send(f"Hello! {DOG}", **SHORT)
    assert [write.slot.text for write in turn.writes] == [DOG] and turn.rejected
    assert m.session().send("Actually, my dog is called Max now.", **SHORT).writes[0].relation == "update"
    assert "Max" in m.session().send(ASK, **SHORT).reply


def test_a_long_message_keeps_its_end(m, server):
    turn = m.session().send("word " * 8000 + "the end", **SHORT)
    assert server.messages[-1]["content"].endswith("the end") and len(server.messages[-1]["content"]) < 4 * 4096
    assert "(only the last" in turn.given


def test_there_is_no_room_for_everything(m, server):
    texts = [f"My dog number {i} is called Rex, {'dog Rex ' * 200}" for i in range(8)]
    told(m, *texts)
    turn = m.session().send(ASK, **SHORT)
    given = [read for read in turn.reads if read.given]
    assert 0 < len(given) < 8 and all(read.weight >= given[-1].weight for read in given)
    assert all((" ".join(read.slot.text.split()) in server.messages[0]["content"]) == read.given for read in turn.reads)
    assert m.engine.base.count(server.messages[0]["content"]) < notes.BUDGET + 50


@each(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), st.booleans()), max_size=12), st.integers(0, 100))
def test_the_budget_is_spent_on_the_heaviest(found, budget):
    slot = SimpleNamespace(speaker="user")
    reads = [
        Read(SimpleNamespace(**vars(slot), text="x" * length), weight, given=given) for weight, length, given in found
    ]
    kept = notes.within(reads, len, budget)
    cost = {id(read.slot): len(read.slot.text) + 2 for read in reads}
    assert [read.slot for read in kept] == [read.slot for read in reads]
    assert sum(cost[id(read.slot)] for read in kept if read.given) <= budget
    for before, after in zip(reads, kept, strict=True):
        assert after.given <= before.given
        if before.given and not after.given:  # what is heavier left no room
            heavier = sum(cost[id(r.slot)] for r in kept if r.given and r.weight >= after.weight)
            assert heavier + cost[id(after.slot)] > budget


# -- while a reply is spoken ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["edit", "delete", "purge"])
def test_a_change_during_the_reply_holds_from_the_next_word_on(m, open_space, server, change):
    (dog,) = told(m, DOG)
    other, before = open_space(), ""
    server.pause = 0.1
    for event in m.session().stream(ASK, max_tokens=40):
        if event.kind == "token" and not before:
            before = event.data
            other.edit(dog, "My dog is called Max.") if change == "edit" else getattr(other, change)(dog)
            server.pause = 0
    turn, (first, second) = event.data, server.bodies
    assert server.left.wait(2), "the first request goes on"
    assert "Rex" in str(first) and "Rex" not in str(second) and ("Max" in str(second)) == (change == "edit")
    assert second["messages"][-2] == {"role": "assistant", "content": before}
    assert turn.reply.startswith(before) and "Rex" not in turn.reply
    assert list(turn.sent) == server.bodies
    if change == "purge":
        assert m.turn(turn.id).sent == () and "Rex" not in repr(m.turn(turn.id))


def test_a_server_that_dies_keeps_what_was_said_and_told(m, server):
    server.trouble = [chats.dies(after=2)]
    chat, heard = m.session(), ""
    with pytest.raises(EndpointError, match="what it said until then is kept"):
        for event in chat.stream(DOG, **SHORT):
            heard += event.data if event.kind == "token" else ""
    (turn,) = chat.turns()
    assert turn.reply == heard == "You say:" and turn.stopped
    assert [slot.text for slot in m.slots()] == [DOG] and turn.sent == tuple(server.bodies)


def test_a_turn_shows_what_was_sent_then_and_nothing_that_was_not(m, server):
    server.trouble = [chats.refuses(400, "only the default", param="temperature", code="unsupported_value")]
    first = m.session().send(TALK, **SHORT)
    assert "temperature" in server.bodies[0] and "temperature" not in server.bodies[1]
    assert first.sent == tuple(server.bodies)
    chat = m.session()
    with pytest.raises(InputError, match="top_p"):
        chat.send(TALK, top_p=0)
    assert chat.turns()[0].sent == () and len(server.bodies) == 2


def test_a_server_that_refuses_keeps_what_was_told(m, server):
    server.trouble = [chats.refuses(500, "oops")]
    with pytest.raises(EndpointError, match="oops"):
        m.session().send(DOG, **SHORT)
    assert [slot.text for slot in m.slots()] == [DOG]


def test_nobody_waits_for_the_server_of_somebody_else(m, open_space, server):
    server.trouble = [chats.hangs(3)]
    stop = threading.Event()
    waiting = threading.Thread(target=lambda: m.session().send(TALK, stop=stop))
    waiting.start()
    while not server.bodies:
        time.sleep(0.01)
    began = time.monotonic()
    assert open_space("bob").session().send(TALK, **SHORT).reply and time.monotonic() - began < 1
    stop.set()
    waiting.join(2)
    assert not waiting.is_alive()


# -- looking back --------------------------------------------------------------------------------------------------


def test_counterfactuals_compare_replies(m, server):
    dog, cat = told(m, DOG, CAT)
    chat = m.session()
    chat.send(TALK, **SHORT)
    turn = chat.send(BOTH, **SHORT)
    asked = len(server.bodies)
    assert m.without(turn, [dog]) == (f"You told me: {CAT}", [])
    assert server.messages[:2] == [user(TALK), {"role": "assistant", "content": f"You say: {TALK}"}]
    assert m.without(turn, [dog, cat]) == (f"You say: {turn.text}", [])
    assert server.messages == [*turn.sent[0]["messages"][:2], user(turn.text)]
    same = m.what_if(turn)
    assert same.reply == turn.reply and server.messages == list(turn.sent[0]["messages"])
    assert m.what_if(turn, strength=0).reply == f"You say: {turn.text}" and len(server.bodies) == asked + 4
    assert m.what_if(turn, spoken=False).reply == "" and len(server.bodies) == asked + 4
    assert (same.tokens, same.divergence, same.choices) == ((), (), ())
    with pytest.raises(InputError, match="strength is 0"):
        m.what_if(turn, strength=0.5)


def test_what_if_an_abstention_had_been_read(m, server):
    told(m, DOG)
    turn = m.session().send("What is my horse called?", **SHORT)
    assert m.what_if(turn, threshold=0).reply == f"You told me: {DOG}"
    assert server.messages[-1] == user(turn.text) and len(server.messages) == 3


def test_what_needs_probabilities_says_so(m):
    (dog,) = told(m, DOG)
    turn = m.session().send(ASK, **SHORT)
    with pytest.raises(InputError, match="memories as text, so there is no attention"):
        m.attribution(turn)
    with pytest.raises(InputError, match="shows no probabilities; .* compare the replies"):
        m.influence(turn)
    with pytest.raises(InputError, match="no attention"):
        m.tokens_of(dog)


def test_a_purge_asks_no_server_and_leaves_no_word_of_it(m, server, tmp_path):
    chat = m.session()
    (write,) = chat.send("My secret word is Xylophonic.", **SHORT).writes
    turn = chat.send("What is my secret word?", **SHORT)
    assert "Xylophonic" in str(turn.sent)
    asked = len(server.bodies)
    done = m.purge(write.slot.id)
    assert len(server.bodies) == asked and done.checks == () and "was not asked" in done.unasked
    assert "Xylophonic" not in repr(chat.turns())
    assert not any(b"Xylophonic" in file.read_bytes() for file in (tmp_path / "data").iterdir())


def test_a_copy_holds_what_was_sent(m, open_space, tmp_path):
    told(m, DOG)
    turn = m.session().send(ASK, **SHORT)
    m.export(tmp_path / "all.jsonl", complete=True)
    copy = open_space(folder="elsewhere")
    copy.import_(tmp_path / "all.jsonl")
    assert copy.turn(turn.id) == turn


@pytest.mark.parametrize(
    "sent",
    [
        7, [7], [{}], [{"messages": 7}], [{"messages": [{"role": 1, "content": "x"}]}],
        [{"messages": [], "model": "half a character: \ud83d"}], [{"messages": [], "seed": [1e999]}],
    ],
)  # fmt: skip
def test_a_copy_with_impossible_requests_is_refused(m, open_space, tmp_path, sent):
    m.session().send(TALK, **SHORT)
    m.export(tmp_path / "all.jsonl", complete=True)
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    lines = [line | {"trace": line["trace"] | {"sent": sent}} if line.get("kind") == "turn" else line for line in lines]
    (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InputError, match="ine "):
        open_space(folder="elsewhere").import_(tmp_path / "all.jsonl")


def test_five_ways_to_answer(m, monkeypatch):
    monkeypatch.setattr("mam.compare._minilm", RuleMemory)
    m.session().send(DOG, **SHORT)
    answers = {answer.way: answer for answer in compare(m, ASK)}
    assert tuple(answers) == WAYS and answers["memory"].reply == f"You told me: {DOG}"
    assert answers["none"].reply == f"You say: {ASK}" and answers["memory"].memory > 0
    assert answers["memory"].context - answers["memory"].memory == answers["none"].context


def test_it_says_what_the_base_is_and_how_memories_reach_it(m, server):
    about = m.about()
    assert about["base"] == server.base and about["device"] == "127.0.0.1" and about["memories as"] == "text"
    assert "memories as" in status(about, "") and server.base in status(about, "")


# -- a base here that cannot carry slot blocks ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def mamba(tmp_path_factory):
    return made(tmp_path_factory.mktemp("mamba"), RECURRENT["mamba"][0])


class Unattached(RuleMemory):
    """Has no integrator for any base."""

    def attach(self, base):
        return MemoryModel.attach(SimpleNamespace(folder=bases.Path("no attachments")), base)


@pytest.fixture
def loaded(monkeypatch):
    """Engines with a memory model that has no attachments."""
    monkeypatch.setattr(MemoryModel, "load", lambda *_, **__: Unattached())
    monkeypatch.setattr(engines, "_loaded", {})
    return lambda base: engines.engine(str(base), "cpu")


def test_an_architecture_that_cannot_carry_blocks_gets_text_and_says_so(mamba, loaded, caplog, tmp_path):
    found = loaded(mamba.id)
    assert found.integrator is None and "cannot carry slot blocks" in found.about()["memories as"]
    assert "is told its memories as text" in caplog.text
    m = Space(Store(tmp_path, "ann"), found)
    (dog,) = told(m, DOG)
    turn = m.session().send(ASK, **SHORT)
    base = m.engine.base
    asked = [*notes.exchange([read for read in turn.reads if read.given]), user(ASK)]
    assert turn.sent == ({"messages": asked},) and DOG in turn.given
    assert turn.reply == base.decode(base.generate(base.prompt(asked), **SHORT))
    plain = m.session().send(TALK, **SHORT)
    assert plain.reply == base.decode(base.generate(base.prompt([user(TALK)]), **SHORT))
    m.close()


def test_text_to_a_base_here_can_be_looked_into(mamba, tmp_path):
    m = Space(Store(tmp_path, "ann"), Engine(mamba, RuleMemory(), None))
    dog, cat = told(m, DOG, CAT)
    turn = m.session().send("my dog, my cat", **SHORT)
    same = m.what_if(turn)
    assert same.reply == turn.reply and max(same.divergence) < 1e-4 and len(same.choices) == len(same.tokens)
    off = m.what_if(turn, strength=0)
    assert off.reply == mamba.decode(mamba.generate(mamba.prompt([user(turn.text)]), max_tokens=turn.tokens))
    assert max(off.divergence) > 0 and list(off.divergence) == m.without(turn, [dog, cat])[1]
    mattered = m.influence(turn)
    assert mattered.shape == (len(same.tokens), 2) and mattered[:, 0].max() > 0
    given = [read.slot.id for read in turn.reads if read.given]
    assert mattered[:, 0].tolist() == pytest.approx(m.without(turn, [given[0]])[1], abs=1e-4)
    memory, prompt = sizes(mamba, None, turn)
    assert memory + prompt == len(mamba.prompt(turn.sent[0]["messages"]))
    m.delete(cat)
    done = m.purge(dog)
    (check,) = done.checks
    assert check.full != check.off and check.deleted == pytest.approx(check.off) and not done.unasked
    m.close()


def test_a_change_during_the_reply_of_a_base_here(mamba, tmp_path):
    m, other = (Space(Store(tmp_path, "ann"), Engine(mamba, RuleMemory(), None)) for _ in range(2))
    (dog,) = told(m, DOG)
    before = ""
    for event in m.session().stream(ASK, max_tokens=30):
        if event.kind == "token" and not before:
            before = event.data
            other.edit(dog, "My dog is called Max.")
    turn = event.data
    first, second = turn.sent
    assert "Rex" in str(first) and "Max" in str(second) and "Rex" not in str(second)
    assert second["messages"][-1]["role"] == "assistant" and second["messages"][-1]["content"].startswith(before[:1])
    m.close()
    other.close()


def test_a_base_that_could_carry_them_is_told_to_be_trained(tiny_folder, loaded):
    with pytest.raises(UnattachedError, match="mam attach --base"):
        loaded(tiny_folder)


# -- another base, the same memory ---------------------------------------------------------------------------------


def test_switching_the_base_keeps_the_memory(tiny_folder, mamba, engine, tmp_path, server):
    torch.manual_seed(1)
    other = made(tmp_path / "qwen", Qwen3Config(**tiny_config()))
    every = [
        rule_engine(tiny_folder), rule_engine(other.id), Engine(mamba, RuleMemory(), None), engine,
        rule_engine(tiny_folder),
    ]  # fmt: skip
    turns: list[Turn] = []
    for number, one in enumerate(every):
        m = Space(Store(tmp_path / "data", "ann"), one)
        (slot,) = [m.session().send(DOG, **SHORT).writes[0].slot] if number == 0 else m.slots()
        kept = m.session("the same").send(ASK, **SHORT)
        assert [read.slot.id for read in kept.reads if read.given] == [slot.id]
        assert (kept.sent == ()) == (one.integrator is not None) and kept.base == one.base.name
        assert m.without(kept, [slot.id])[0] != kept.reply
        for earlier in turns:
            if earlier.base != one.base.name:
                with pytest.raises(InputError, match="open the memory with that base"):
                    m.without(earlier, [slot.id])
                assert sum(sizes(one.base, one.integrator, earlier)) > 0
        turns.append(kept)
        m.close()
    assert turns[0].base == turns[-1].base
    again = Space(Store(tmp_path / "data", "ann"), every[0])
    assert again.session().send(ASK, **SHORT).reply == turns[0].reply  # blocks were made anew, and are the same
    again.close()


# -- shells --------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(desk):
    """The desk of a page, and who asks."""
    return desk, SimpleNamespace(username=None, session_hash="tab")


def test_the_page_shows_what_broke_off_and_keeps_what_was_not_answered(page, server):
    desk, request = page
    server.trouble = [chats.dies(after=3), chats.refuses(500, "oops")]
    with pytest.warns(UserWarning, match="broke off"):  # what the page shows as a warning
        *_, last, end = Talk(desk).send(TALK, None, False, request)
    assert end == (gr.skip(),) * 7  # it comes twice
    assert "You say: Tell" in last[1] and "stopped" in last[1] and last[2] == "" and last[5] == gr.skip()
    boxes = []
    with pytest.raises(EndpointError, match="oops"):
        boxes.extend(step[5] for step in Talk(desk).send("Another story.", None, False, request))
    assert boxes[-1] == "Another story."


def test_the_page_says_what_cannot_be_looked_into(page, server):
    desk, request = page
    m = desk.space(request)
    (dog,) = told(m, DOG)
    turn = m.session().send(ASK, **SHORT)
    figure, line, _ = Inside(desk).heat_map(turn.id, INSIDE, False, (), request)
    assert figure == "" and "memories as text" in line
    assert "word by word" in Inside(desk).look(turn.id, request)[2]
    *_, words = SlotPage(desk).words(SimpleNamespace(act="words"), dog, request)
    assert "memories as text" in words
    asked = len(server.bodies)
    begun = WhatIf(desk).begin(turn.id, WHAT_IF, False, request)
    assert begun[1].maximum == 1 and turn.reply in begun[5] and begun[7] == "" and len(server.bodies) == asked
    changed = WhatIf(desk).change(spoken=True)(turn.id, [], 1, False, 8, 0.5, 0, False, request)
    assert "You say: What is my dog called?" in changed[1]
    other = replace(turn, base="another")
    m.store.save_turn(other)
    assert "answered by another" in WhatIf(desk).begin(turn.id, WHAT_IF, False, request)[5]
    assert "answered by another" in Inside(desk).heat_map(turn.id, INSIDE, False, (), request)[1]
    with pytest.raises(InputError, match="no integrator to train"):
        Training(desk).start("integrator", 20, request)
    assert "was not asked" in certificate(m.purge(dog))


def test_the_command_line(server, engine, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mam, "open", lambda *_, **__: Space(Store(tmp_path, "ann"), engine))
    assert main(["add", DOG]) == 0 and main(["ask", ASK]) == 0
    assert "You told me: My dog is called Rex.\n" in capsys.readouterr().out
    server.trouble = [chats.dies(after=2)]
    assert main(["ask", TALK]) == 2
    printed = capsys.readouterr()
    assert printed.out == "You say:\n" and printed.err.count("\n") == 1 and "broke off" in printed.err


def test_benchmarks_of_slot_blocks_need_some(server, loaded, capsys):
    assert main(["bench", "recall", "--base", server.base]) == 2
    assert "told its memories as text" in capsys.readouterr().err


def test_a_base_on_a_server_is_measured_as_it_is_served(server, loaded, tmp_path, capsys):
    file = tmp_path / "serve.json"
    assert main(["bench", "serve", "--base", server.base, "--limit", "2", "--json", str(file)]) == 0
    content = json.loads(file.read_text())
    assert content["base"] == server.base and content["results"]["batched"] is False
    assert content["results"]["clients"] == 2 and content["results"]["batching_gain"] > 0
    assert "LIMITED" in capsys.readouterr().out and list(tmp_path.iterdir()) == [file]
