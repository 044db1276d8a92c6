"""A look inside a finished turn: what was looked at, what mattered, and what another memory would have said."""

from __future__ import annotations

import pytest

from mam.errors import InputError

SHORT = {"max_tokens": 12}
DOG = "My dog is called Rex."
ASK = "What is my dog called?"


def test_without_a_slot_the_reply_is_another(m):
    dog, cat = m.add(DOG), m.add("My cat is called Tom.")
    turn = m.session().send("my dog, my cat", **SHORT)
    assert {read.slot.id for read in turn.reads if read.given} == {dog.id, cat.id}
    reply, divergence = m.without(turn, [dog.id, cat.id])
    base = m.engine.base
    prompt = base.prompt([{"role": "user", "content": turn.text}])
    assert reply == base.decode(base.generate(prompt, max_tokens=12))
    assert divergence and all(value >= 0 for value in divergence) and max(divergence) > 0
    same, none = m.without(turn, [])
    assert same == turn.reply and max(none) < 1e-4
    with pytest.raises(InputError, match="choose among"):
        m.without(turn, ["nothing"])


def test_what_if_changes_the_reply_and_nothing_else(m):
    dog, cat = m.add(DOG), m.add("My cat is called Tom.")
    turn = m.session().send("my dog, my cat", **SHORT)
    version = m.version()
    same = m.what_if(turn)
    assert same.reply == turn.reply and max(same.divergence) < 1e-4
    assert len(same.choices) == len(same.tokens) == len(same.divergence)
    assert all(choice.then == pytest.approx(choice.now, abs=1e-3) for choice in same.choices[0])
    off = m.what_if(turn, strength=0)
    assert (off.reply, list(off.divergence)) == m.without(turn, [dog.id, cat.id])
    half, quiet = m.what_if(turn, strength=0.5), m.what_if(turn, strength=0.5, spoken=False)
    assert 0 < sum(half.divergence) < sum(off.divergence) and quiet.reply == "" and quiet.divergence == half.divergence
    assert len(m.what_if(turn, k=1).reads) == 1
    assert not any(read.given for read in m.what_if(turn, threshold=1).reads)
    assert m.version() == version


def test_what_if_an_abstention_had_been_read(m):
    m.add(DOG)
    turn = m.session().send("What is my horse called?", **SHORT)
    assert turn.abstained
    told = m.what_if(turn, threshold=0)
    assert any(read.given for read in told.reads) and told.reply and told.divergence == ()
    assert not any(read.given for read in m.what_if(turn).reads)


@pytest.mark.parametrize("change", [{"strength": -1}, {"strength": 5}, {"k": 0}, {"k": 65}, {"threshold": 2}])
def test_what_if_names_what_is_out_of_range(m, change):
    with pytest.raises(InputError, match="(strength|k|threshold) is"):
        m.what_if(m.session().send("What is my horse called?", **SHORT), **change)


def test_influence_has_the_shape_of_attribution_and_agrees_with_leaving_a_slot_out(m):
    dog = m.add(DOG)
    turn = m.session().send(ASK, **SHORT)
    looked, mattered = m.attribution(turn), m.influence(turn)
    assert looked.slots == (dog,) and mattered.shape == looked.attention.shape
    assert mattered[:, 0].tolist() == pytest.approx(m.without(turn, [dog.id])[1], abs=1e-4)
    assert m.influence(m.session().send("What is my horse called?", **SHORT)).shape[1] == 0


def test_attribution_has_a_row_for_each_token_and_a_column_for_each_slot(m):
    slot = m.add(DOG)
    found = m.attribution(m.session().send(ASK, **SHORT))
    assert found.slots == (slot,) and found.attention.shape == (len(found.tokens), 1)
    assert (found.attention > 0).all() and (found.attention < 1).all()


def test_without_needs_something_that_was_read(m):
    with pytest.raises(InputError, match="no memory"):
        m.without(m.session().send("What is my horse called?", **SHORT), [])
