"""What a space can be asked about its slots: pages, orders, what read one, what is near, what was said around it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mam.errors import InputError
from mam.queries import ORDERS
from mam.store import new_id
from mam.values import ARCHIVED, Read, Slot, Turn

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DOG, CAT = "My dog is called Rex.", "My cat is called Tom."


def a_slot(text: str, **fields) -> Slot:
    return Slot(**{"id": new_id(), "text": text, "said": text, "speaker": "user", "told": NOW} | fields)


def texts(slots) -> list[str]:
    return [slot.text for slot in slots]


def test_slots_come_in_every_order(open_store):
    store = open_store()
    store.add_slots(
        [a_slot("b", reads=2, score=0.5), a_slot("C", reads=5), a_slot("a", score=0.9), a_slot("É", reads=2)]
    )
    wanted = {
        "oldest": "b C a É", "newest": "É a C b", "most read": "C É b a", "gate score": "a b É C",
        "alphabetical": "a b C É",
    }  # fmt: skip
    assert set(wanted) == set(ORDERS)
    for order, expected in wanted.items():
        assert " ".join(texts(store.slots(order=order))) == expected, order
        assert texts(store.slots(order=order, limit=2, offset=1)) == expected.split()[1:3]
    with pytest.raises(InputError, match="no order"):
        store.slots(order="seq; DROP TABLE slots")


def test_find_pages_through_what_matches(m):
    for number in range(7):
        m.add(f"My dog number {number} is called Rex.")
    m.add(CAT)
    found = m.find("DOG", limit=3, offset=3, order="oldest")
    assert found.total == 7 and texts(found.slots) == [f"My dog number {n} is called Rex." for n in (3, 4, 5)]
    assert m.find("dog", offset=70).total == 7 and m.find("dog", offset=70).slots == ()
    assert m.find(order="alphabetical", limit=1).slots[0].text == CAT
    with pytest.raises(InputError, match="no state"):
        m.find(state="gone")


def test_find_by_meaning_words_and_id_with_filters(m):
    dog, cat = m.add(DOG), m.add(CAT)
    m.tag(cat.id, "home")
    for by in ("reader", "words"):
        assert m.find("What is my cat called?", by).slots[0].id == cat.id
        assert m.find("dog", by, tag="home").total == (1 if by == "reader" else 0)
    assert m.find(dog.id[:8], "id").slots == (dog,)
    m.delete(dog.id)
    assert m.find(dog.id[:8], "id", None).total == 1 and m.find(dog.id[:8], "id").total == 0
    assert m.find("dog", "words").total == 0
    assert m.find("", "reader").total == 1  # nothing to look for: everything


def test_tags_and_origins_are_listed(m, tmp_path):
    slot = m.add(DOG)
    m.add("Ida likes tea.", speaker="Ida")
    (tmp_path / "zoo.txt").write_text("The zoo opens at nine.", encoding="utf-8")
    m.ingest(tmp_path / "zoo.txt")
    m.tag(slot.id, "pets", "home")
    m.archive(slot.id)
    assert m.tags() == {"home": 1, "pets": 1} and m.tags(ARCHIVED) == m.tags() and m.tags("active") == {}
    assert m.origins() == (["Ida", "user"], ["zoo.txt"])


def test_reads_of_finds_the_turns_that_were_given_a_slot(m):
    dog, cat = m.add(DOG), m.add(CAT)
    chat = m.session("Monday")
    first = chat.send("What is my dog called?", max_tokens=4)
    chat.send("Hello there!", max_tokens=4)
    last = m.session("Tuesday").send("What is my dog called?", max_tokens=4)
    found = m.reads_of(dog.id)
    assert [turn.id for turn, _ in found] == [last.id, first.id]
    assert all(read.slot.id == dog.id and read.given and 0 < read.weight <= 1 for _, read in found)
    assert [turn.id for turn, _ in m.reads_of(dog.id, 1)] == [last.id]
    assert m.reads_of(cat.id) == []
    with pytest.raises(InputError):
        m.reads_of("nobody's")


def test_reads_of_ignores_turns_that_only_weighed_or_wrote_it(open_store):
    store = open_store()
    slot = a_slot(DOG)
    store.add_slots([slot])
    session = store.new_session()
    for number, given in enumerate((True, False, True)):
        at = NOW + timedelta(minutes=number)
        turn = Turn(new_id(), session.id, "q", "r", at, reads=(Read(slot, 0.5, {}, given),))
        store.save_turn(turn, finished=True)
    assert [turn.at.minute for turn, _ in store.reads_of(slot.id)] == [2, 0]
    assert store.slot(slot.id).reads == 2


def test_neighbours_are_the_nearest_by_key(m):
    dog, cat = m.add(DOG), m.add(CAT)
    twin = m.add("My dog is called Rex!")
    (first, cosine), *others = m.neighbours(dog.id)
    assert first.id == twin.id and cosine == pytest.approx(1, abs=1e-5)
    assert [slot.id for slot, _ in others] == [cat.id] and others[0][1] < cosine
    assert [slot.id for slot, _ in m.neighbours(dog.id, 1)] == [twin.id]
    m.delete(dog.id)  # of a slot that is in no index, too, but never to one
    assert m.neighbours(dog.id)[0][0].id == twin.id and len(m.neighbours(twin.id)) == 1
    m.store.edit_slot(twin.id, DOG)  # no key is stored
    assert m.neighbours(twin.id)[0][0].id == cat.id


def test_around_gives_the_turns_before_and_after_in_its_own_session(m):
    monday, tuesday = m.session("Monday"), m.session("Tuesday")
    said = [(monday if n % 2 else tuesday).send(f"I like tea number {n}.", max_tokens=2) for n in range(6)]
    assert [turn.id for turn in m.around(said[3].id)] == [said[1].id, said[3].id, said[5].id]
    assert [turn.id for turn in m.around(said[0].id, 2)] == [said[0].id, said[2].id, said[4].id]
    with pytest.raises(InputError):
        m.around("nobody's")


def test_tokens_of_gives_the_attention_on_the_slot(m):
    dog = m.add(DOG)
    assert m.tokens_of(dog.id) == []
    turn = m.session("Monday").send("What is my dog called?", max_tokens=6)
    ((found, tokens, shares),) = m.tokens_of(dog.id)
    assert found.id == turn.id and len(tokens) == len(shares) > 0 and shares.dtype == np.float32
    whole = m.attribution(turn)
    assert np.array_equal(shares, whole.attention[:, [slot.id for slot in whole.slots].index(dog.id)])


def test_another_user_finds_nothing(open_space):
    ann, bob = open_space("ann"), open_space("bob")
    dog = ann.add(DOG)
    turn = ann.session("Monday").send("What is my dog called?", max_tokens=2)
    assert (
        bob.find().total == 0 and bob.tags() == {} and bob.origins() == ([], []) and bob.slots(None, ids=[dog.id]) == []
    )
    for forged in (bob.reads_of, bob.neighbours, bob.tokens_of):
        with pytest.raises(InputError):
            forged(dog.id)
    with pytest.raises(InputError):
        bob.around(turn.id)


def test_an_export_without_a_file_says_the_same(m, tmp_path):
    m.session("Monday").send(DOG, max_tokens=2)
    m.delete(m.add(CAT).id)
    for complete in (False, True):
        m.export(tmp_path / "out.jsonl", complete=complete)
        assert m.exported(complete=complete) == (tmp_path / "out.jsonl").read_text(encoding="utf-8")


def test_long_work_tells_how_far_it_is(m, tmp_path):
    seen = []
    (tmp_path / "zoo.txt").write_text("The zoo opens at nine. It closes at six.", encoding="utf-8")
    m.ingest(tmp_path / "zoo.txt", lambda *step: seen.append(step))
    m.consolidate(preview=True, progress=lambda *step: seen.append(step))
    assert seen[0] == ("ingesting", 2, 2) and seen[-1] == ("comparing", 2, 2)
