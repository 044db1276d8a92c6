"""Continuous batching: together every reply is what it is alone, and one's end or failure is not the others'."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest
import torch
from conftest import byte_tokenizer
from fakes import rule_engine
from test_decode import PROMPT, memory_of, sliding

from mam import batch as batching
from mam import decode
from mam.base import Base
from mam.batch import MOST, SPARE, Batch, Sheet
from mam.decode import Prepared
from mam.errors import InputError, WeightsError
from mam.fairlock import FairLock
from mam.values import Read, Slot

KINDS = ["llama", "mixed", "sliding"]


def base_of(tiny_base, kind: str) -> Base:
    base = tiny_base if kind == "llama" else Base(kind, sliding(kind), byte_tokenizer())
    base = Base(base.id, base.model, base.tokenizer)
    base.stop_ids = frozenset()
    return base


def started(base: Base) -> Batch:
    return Batch(base, FairLock())


def together(batch: Batch, jobs: list[dict], begin=None) -> list:
    """Every job's tokens, or what it raised; `begin`: seconds after which each begins."""
    said: list = [None] * len(jobs)

    def speak(at: int) -> None:
        time.sleep(begin[at] if begin else 0)
        try:
            said[at] = list(batch.generate(**jobs[at]))
        except Exception as error:
            said[at] = error

    threads = [threading.Thread(target=speak, args=(at,)) for at in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return said


def covered(memory: Prepared, model) -> Prepared:
    """The same memory with coverage and items to come to, as the integrator prepares one."""
    count = memory.bias.shape[0]
    memory.tokens, memory.coverage = torch.arange(count) % 200, 3.0
    memory.items, memory.ends, memory.going_on = (frozenset({300}),) * 3, frozenset(range(130)), 131
    return memory


def jobs_of(base: Base, count: int) -> list[dict]:
    """Prompts and replies of many lengths; two of three read a memory."""
    with torch.inference_mode():
        memories = [None, memory_of(base.model, PROMPT[:9], -0.5), covered(memory_of(base.model, PROMPT[3:20]), base)]
    return [
        {"ids": PROMPT[: 5 + 2 * (at % 9)] + [at], "max_tokens": 10 + 7 * (at % 5), "memory": memories[at % 3]}
        for at in range(count)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_together_everybody_says_what_they_say_alone(tiny_base, kind):
    base = base_of(tiny_base, kind)
    jobs = jobs_of(base, 12)
    alone = [list(base.generate(**job)) for job in jobs]
    batch = started(base)
    assert together(batch, jobs) == alone
    assert together(batch, jobs, begin=[0.004 * at for at in range(12)]) == alone  # come and go
    batch.close()


def test_steps_are_shared(tiny_base, monkeypatch):
    base = base_of(tiny_base, "llama")
    heights, forward = [], base.model.forward

    def counted(*args, **kwargs):
        heights.append(kwargs["input_ids"].shape)
        return forward(*args, **kwargs)

    monkeypatch.setattr(base.model, "forward", counted)
    batch = started(base)
    (alone,) = together(batch, [{"ids": PROMPT, "max_tokens": 20}])
    assert {rows for rows, _ in heights} == {1} and len(heights) == 20  # the single loop's passes
    heights.clear()
    with batch._lock:  # until all have come
        threads = threading.Thread(target=together, args=(batch, [{"ids": PROMPT, "max_tokens": 60}] * 8))
        threads.start()
        time.sleep(0.2)
    threads.join()
    assert max(rows for rows, _ in heights) == 8 and len(heights) < 8 * 60 / 3
    batch.close()


def test_the_same_seed_draws_the_same(tiny_base):
    base = base_of(tiny_base, "llama")
    jobs = [{"ids": PROMPT, "max_tokens": 25, "temperature": 1.0, "top_p": 0.9, "seed": seed} for seed in range(6)]
    alone = [list(base.generate(**job)) for job in jobs]
    batch = started(base)
    assert together(batch, jobs) == alone and len(set(map(tuple, alone))) == 6
    batch.close()


def test_more_than_there_is_room_for_wait(tiny_base):
    base = base_of(tiny_base, "llama")
    jobs = [{"ids": [*PROMPT, at], "max_tokens": 6} for at in range(MOST + 9)]
    batch = started(base)
    assert together(batch, jobs) == [list(base.generate(**job)) for job in jobs]
    batch.close()


def test_stop_ends_one_reply_and_no_other(tiny_base):
    base = base_of(tiny_base, "llama")
    stop, batch = threading.Event(), started(base)
    said = []
    whole = list(base.generate(PROMPT, max_tokens=300))
    other = threading.Thread(target=lambda: said.extend(batch.generate(PROMPT, max_tokens=300)))
    other.start()
    tokens = batch.generate(PROMPT, max_tokens=300, stop=stop)
    begun = [next(tokens) for _ in range(5)]
    stop.set()
    rest = list(tokens)
    third = batch.generate(PROMPT, max_tokens=300)
    next(third)
    third.close()  # whoever stops listening, too
    other.join(60)
    assert said == whole and begun == whole[:5] and len(rest) < 295
    batch.close()


def test_what_cannot_be_said_fails_for_itself_alone(tiny_base):
    base = base_of(tiny_base, "llama")
    with torch.inference_mode():
        good = memory_of(base.model, PROMPT[:6])
    bad = Prepared(good.keys[:1], good.values[:1], good.bias, good.start)  # made for a base with one layer
    jobs = [{"ids": PROMPT, "max_tokens": 30} for _ in range(4)]
    jobs += [jobs[0] | {"memory": bad}, jobs[0] | {"ids": PROMPT * 40}, jobs[0] | {"ids": []}, jobs[0] | {"top_p": 0}]
    batch = started(base)
    *fine, misfit, long, empty, wrong = together(batch, jobs)
    assert fine == [list(base.generate(PROMPT, max_tokens=30))] * 4
    assert isinstance(misfit, WeightsError) and all(isinstance(each, InputError) for each in (long, empty, wrong))
    batch.close()


def test_a_row_without_numbers_fails_for_itself_alone(tiny_base, monkeypatch):
    base = base_of(tiny_base, "llama")
    job = {"ids": PROMPT, "max_tokens": 30}
    drawn = job | {"temperature": 1.0, "seed": 1}
    alone, sampler, batch = list(base.generate(**job)), decode.sampler, started(base)

    def broken(temperature, top_p, seed):
        sample, count = sampler(temperature, top_p, seed), iter(range(99))
        return lambda logits: sample(logits * float("nan") if seed and next(count) == 9 else logits)

    monkeypatch.setattr(decode, "sampler", broken)
    first, second, wrong = together(batch, [job, job, drawn])
    assert first == second == alone and isinstance(wrong, RuntimeError)
    assert together(batch, [job]) == [alone]
    batch.close()


def test_who_leaves_while_waiting_is_let_go_at_once(tiny_base, monkeypatch):
    monkeypatch.setattr(batching, "MOST", 1)
    base = base_of(tiny_base, "llama")
    stop, batch = threading.Event(), started(base)
    first = batch.generate(PROMPT, max_tokens=400)
    next(first)
    threads, left = [], []
    with batch._lock:  # nobody says a word meanwhile
        for _ in range(3):
            threads.append(threading.Thread(target=lambda: left.append(list(batch.generate(PROMPT, stop=stop)))))
            threads[-1].start()
        time.sleep(0.2)
        stop.set()
    for thread in threads:
        thread.join(5)
    assert left == [[]] * 3 and len(batch._speaking) == 1  # while the first goes on
    assert len(list(first)) > 300
    batch.close()


def test_one_long_reply_does_not_make_room_for_many_as_long(tiny_base, monkeypatch):
    """Neither while it is there, nor by the columns and rows that are left when others follow."""
    monkeypatch.setattr(batching, "CELLS", 1_500)
    base = base_of(tiny_base, "llama")
    jobs = [{"ids": PROMPT, "max_tokens": 9} for _ in range(12)]
    jobs[3] = jobs[7] = {"ids": PROMPT * 5, "max_tokens": 120}
    alone = [list(base.generate(**job)) for job in jobs]
    cells, room = [], Sheet._room

    def seen(sheet, *args):
        room(sheet, *args)
        cells.append(sheet._planes["bias"].numel())

    monkeypatch.setattr(Sheet, "_room", seen)
    batch = started(base)
    assert together(batch, jobs) == alone
    assert together(batch, jobs, begin=[0.01 * at for at in range(12)]) == alone
    assert cells and max(cells) <= 1_500 + 12 * SPARE
    batch.close()


def test_a_failing_pass_is_told_and_the_next_reply_works(tiny_base, monkeypatch):
    base = base_of(tiny_base, "llama")
    batch, forward = started(base), base.model.forward

    def failing(*args, **kwargs):
        if kwargs["input_ids"].shape[1] == 1:
            raise RuntimeError("out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(base.model, "forward", failing)
    assert {str(error) for error in together(batch, [{"ids": PROMPT, "max_tokens": 9}] * 3)} == {"out of memory"}
    monkeypatch.undo()
    assert together(batch, [{"ids": PROMPT, "max_tokens": 9}]) == [list(base.generate(PROMPT, max_tokens=9))]
    batch.close()


def test_an_edit_holds_at_the_next_token_of_every_reply_in_the_batch(open_space, engine):
    m = open_space()
    m.add("My dog is called Rex.")
    engine.batch = Batch(engine.base, engine.lock)
    try:
        chats = [m.session().stream("What is my dog called?", max_tokens=60) for _ in range(3)]
        for chat in chats:
            while next(chat).kind != "token":
                pass
        (slot,) = m.slots()
        m.edit(slot.id, "My dog is called Max.")
        turns = [list(chat)[-1].data for chat in chats]
    finally:
        engine.batch.close()
        engine.batch = None
    assert all([read.slot.text for read in turn.reads] == ["My dog is called Max."] for turn in turns)


@pytest.mark.parametrize("frozen", [False, True])
def test_adapters_are_on_for_those_who_read_and_for_nobody_else(tiny_folder, frozen):
    engine = rule_engine(tiny_folder)
    base, adapters = engine.base, engine.integrator.adapters
    base.stop_ids = frozenset()
    torch.manual_seed(0)
    for b in adapters.b:
        b.data.normal_(std=0.1)
    if frozen:
        adapters.freeze()
    slots = [Slot(f"id{n}", text, text, "user", datetime.now(UTC)) for n, text in enumerate(("My dog is Rex.", "Oslo"))]
    memory = engine.integrator.prepare([Read(slots[0], 0.7), Read(slots[1], 0.3)])
    jobs = [{"ids": [*PROMPT, at], "max_tokens": 24, "memory": (memory, None)[at % 2]} for at in range(8)]
    alone = [list(base.generate(**job)) for job in jobs]
    assert alone[0] != list(base.generate(**jobs[0] | {"memory": None}))
    for chosen in (slice(None), slice(0, None, 2), slice(1, None, 2)):  # both kinds at once, readers, others
        batch = started(base)
        assert together(batch, jobs[chosen]) == alone[chosen]
        batch.close()


def test_a_space_says_the_same_with_and_without_a_batch(open_space, engine):
    m = open_space()
    m.add("My dog is called Rex.")
    asked = ["What is my dog called?", "Hello there", "Name three rivers."]
    alone = [m.session().send(text, max_tokens=24).reply for text in asked]
    engine.batch, said = Batch(engine.base, engine.lock), {}
    try:
        threads = [
            threading.Thread(target=lambda text=text: said.update({text: m.session().send(text, max_tokens=24).reply}))
            for text in asked
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        engine.batch.close()
        engine.batch = None
    assert [said[text] for text in asked] == alone
