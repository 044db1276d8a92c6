"""What can be done with slots and sessions, the same in a file and on a server."""

from __future__ import annotations

import inspect
import random
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mam.errors import ConflictError, InputError
from mam.store import new_id
from mam.values import ACTIVE, ARCHIVED, DELETED, SUPERSEDED, Candidate, Read, Slot, Turn, Write

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def store(open_store):
    return open_store()


def a_slot(text="My dog is called Rex.", **fields) -> Slot:
    return Slot(**{"id": new_id(), "text": text, "said": text, "speaker": "user", "told": NOW} | fields)


def a_turn(store, text="My dog is called Rex.", session=None, **fields) -> Turn:
    session = session or store.new_session().id
    turn = Turn(id=new_id(), session=session, text=text, reply="Nice!", at=NOW, **fields)
    store.save_turn(turn)
    return turn


def what(slot: Slot) -> tuple:
    return slot.text, slot.state, slot.tags, slot.pinned, slot.superseded_by


# -- slots ----------------------------------------------------------------------------------------------------------


def test_everything_a_slot_holds_comes_back(store, open_store):
    slot = a_slot(
        said="It is Rex.", speaker="notes.pdf", when="2026-11-27", version=3, span=(3, 20), score=0.93,
        tags=("pets", 'odd "tag" \\ é'), pinned=True, document="notes.pdf", position="page 3",
    )  # fmt: skip
    store.add_slot(slot, np.arange(4), "f1")
    again = open_store()
    assert again.slots() == [slot] == [again.slot(slot.id)]
    assert np.frombuffer(again.keys([slot.id], "f1")[slot.id], "<f4").tolist() == [0, 1, 2, 3]
    assert again.keys([slot.id], "f2") == {}
    (version,) = again.versions(slot.id)
    assert (version.by, version.tags, version.pinned, version.when) == ("user", slot.tags, True, slot.when)


def test_pin_tag_archive_restore(store):
    slot = store.add_slot(a_slot())
    assert store.pin_slot(slot.id).pinned and not store.pin_slot(slot.id, False).pinned
    assert store.tag_slot(slot.id, ["pets", " home ", "pets"]).tags == ("pets", "home")
    assert store.tags() == {"home": 1, "pets": 1}
    assert store.archive_slot(slot.id).state == ARCHIVED and store.slots() == [] and store.tags() == {}
    assert store.archive_slot(slot.id).state == ARCHIVED  # again: nothing more happens
    assert store.restore_slot(slot.id).state == ACTIVE
    assert [version.by for version in store.versions(slot.id)] == ["user"] * 6
    store.delete_slot(slot.id)
    with pytest.raises(ConflictError, match="deleted"):
        store.archive_slot(slot.id)
    for tags in (["x" * 65], [""], ["a\nb"], [str(n) for n in range(33)]):
        with pytest.raises(InputError, match="tags"):
            store.tag_slot(slot.id, tags)


def test_lists_are_filtered_and_paged(store):
    session = store.new_session("Monday").id
    for number in range(10):
        store.add_slot(
            a_slot(
                f"Note {number} about ÖL and 100%.",
                told=NOW + timedelta(days=number),
                speaker="Tom" if number % 2 else "user",
                tags=("even",) if number % 2 == 0 else ("odd", "even-not"),
                pinned=number == 3,
                session=session if number < 2 else None,
                document="d.txt" if number == 9 else None,
            )
        )
    every = store.slots()
    assert store.slots(limit=3, offset=2) == every[2:5]
    assert store.slots(newest_first=True, limit=2) == every[:-3:-1]
    assert store.slots(tag="even") == every[::2] and store.count(tag="even") == 5
    assert store.slots(tag="eve") == [] == store.slots(tag="%")
    assert store.slots(speaker="Tom") == every[1::2]
    assert store.slots(pinned=True) == [every[3]] and store.count(pinned=False) == 9
    assert store.slots(session=session) == every[:2] and store.slots(document="d.txt") == [every[9]]
    assert store.slots(since=NOW + timedelta(days=8)) == every[8:] and store.slots(until=NOW) == every[:1]
    assert store.slots(find="note 4 ABOUT öl") == [every[4]] and store.count(find="100%") == 10
    assert store.slots(find="_") == [] and store.slots(id=every[5].id[:9]) == [every[5]]
    assert store.slots(DELETED) == [] and store.count(None) == 10
    with pytest.raises(InputError, match="state"):
        store.slots("sleeping")
    with pytest.raises(TypeError):
        store.slots(colour="red")


def test_an_edit_of_what_was_changed_meanwhile_is_a_conflict(store, open_store):
    other, slot = open_store(), store.add_slot(a_slot())
    other.edit_slot(slot.id, "first", version=1)
    for change in (
        lambda: store.edit_slot(slot.id, "second", version=1),
        lambda: store.delete_slot(slot.id, version=1),
        lambda: store.supersede_slot(slot.id, slot.id, version=1),
    ):
        with pytest.raises(ConflictError, match="version 2"):
            change()
    assert store.slot(slot.id).text == "first"


def test_of_many_writers_at_once_one_wins(store, open_store):
    slot, outcomes = store.add_slot(a_slot()), []

    def write(number):
        mine = open_store()
        try:
            mine.edit_slot(slot.id, f"by {number}", version=1)
            outcomes.append(number)
        except ConflictError:
            outcomes.append(None)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for number in outcomes if number is not None]
    assert len(outcomes) == 6 and store.slot(slot.id).text == f"by {winner}"


COUNTER = """
import sys
from mam.errors import ConflictError
from mam.store import Store
store, id = Store(sys.argv[1], sys.argv[2]), sys.argv[3]
done = 0
while done < 25:
    slot = store.slot(id)
    try:
        store.edit_slot(id, str(int(slot.text) + 1), version=slot.version)
        done += 1
    except ConflictError:
        continue
"""


def test_programs_that_count_together_lose_no_step(store):
    """Three programs add one to the same memory, each time to what they saw; whoever was late sees so and repeats."""
    slot = store.add_slot(a_slot("0"))
    where = store.place if store.database.shared else str(store.file.parent)
    command = [sys.executable, "-c", COUNTER, where, store.user, slot.id]
    programs = [subprocess.Popen(command) for _ in range(3)]
    assert [program.wait(60) for program in programs] == [0, 0, 0]
    assert store.slot(slot.id).text == "75" and store.slot(slot.id).version == 76
    assert [version.text for version in store.versions(slot.id)] == [str(number) for number in range(76)]


def test_a_failed_transaction_leaves_nothing(store):
    version = store.version()
    with pytest.raises(ZeroDivisionError), store.atomic():
        store.add_slot(a_slot())
        raise ZeroDivisionError
    assert store.slots(None) == [] and store.version() == version


def test_changes_tell_other_programs_what_happened(store, open_store):
    there = open_store()
    slot, other = store.add_slot(a_slot()), store.add_slot(a_slot("I love tea."))
    seen, changed, gone = there.changes(0)
    assert changed == [slot, other] and gone == []
    edited = store.edit_slot(slot.id, "My dog is called Max.")
    seen, changed, gone = there.changes(seen)
    assert changed == [edited] and gone == []
    store.purge_slots([slot.id])
    seen, changed, gone = there.changes(seen)
    assert changed == [] and gone == [slot.id]
    assert there.changes(seen) == (seen, [], [])
    again = store.add_slot(edited)  # imported anew, and purged once more
    assert there.changes(seen)[1] == [again]
    store.purge_slots([slot.id])
    assert there.changes(seen)[1:] == ([], [slot.id])


# -- undo and past states -------------------------------------------------------------------------------------------


def test_undo_takes_back_one_change_after_the_other(store, open_store):
    slot = store.add_slot(a_slot(), np.ones(2), "f")
    store.edit_slot(slot.id, "My dog is called Max.", when="2026-12-01")
    store.delete_slot(slot.id)
    with store.atomic():  # a turn that updates: one change
        new = store.add_slot(a_slot("My cat is called Tom."))
        store.restore_slot(slot.id)
        store.supersede_slot(slot.id, new.id)
    assert {each.id for each in open_store().undo()} == {slot.id, new.id}  # another program may do it
    assert what(store.slot(slot.id)) == ("My dog is called Max.", DELETED, (), False, None)
    assert store.slot(new.id).state == DELETED
    store.undo()
    assert store.slot(slot.id).state == ACTIVE and store.slot(slot.id).version == 2
    (back,) = store.undo()
    assert (back.text, back.when, back.version) == (slot.text, None, 3)
    store.pin_slot(slot.id)  # a new change comes before the older ones
    assert store.undo()[0].pinned is False
    assert store.undo()[0].state == DELETED  # that it was added
    with pytest.raises(InputError, match="nothing to undo"):
        store.undo()
    assert store.versions(slot.id)[-1].by == "undo"


def test_undo_does_not_bring_back_what_was_purged(store):
    slot, other = store.add_slot(a_slot()), store.add_slot(a_slot("I love tea."))
    store.edit_slot(slot.id, "My dog is called Max.")
    store.purge_slots([slot.id])
    assert store.undo()[0].id == other.id
    with pytest.raises(InputError):
        store.undo()


def test_undo_makes_no_memory_of_what_is_left_of_a_purged_one(store):
    secret = "My PIN is forty-two seventeen."
    slot = store.add_slot(a_slot(secret))
    store.edit_slot(slot.id, "I love tea.")
    store.purge_slots([store.add_slot(a_slot(secret)).id])
    assert [version.text for version in store.versions(slot.id)] == ["[purged]", "I love tea."]
    assert store.undo()[0].text == "I love tea." == store.slots()[0].text


@pytest.mark.parametrize("seed", range(3))
def test_every_past_state_is_reproduced(store, seed):
    """Random changes; after each, the state, the data version and the time are noted and asked for at the end."""
    draw, ids, past = random.Random(seed), [], []
    for step in range(60):
        pick = draw.choice(ids) if ids else None
        act = draw.choice(["add", "edit", "state", "tag", "pin", "undo", "group"]) if ids else "add"
        if act == "add":
            ids.append(store.add_slot(a_slot(f"memory number {step}.")).id)
        elif act == "edit" and store.slot(pick).state != DELETED:
            store.edit_slot(pick, f"memory edited in {step}.", when=draw.choice([None, "2026-01-01"]))
        elif act == "state":
            draw.choice([store.delete_slot, store.restore_slot])(pick)
        elif act == "tag":
            store.tag_slot(pick, draw.sample(["a", "b", "c"], 2))
        elif act == "pin":
            store.pin_slot(pick, draw.random() < 0.5)
        elif act == "undo":
            store.undo() if step % 2 else None
        elif act == "group" and store.slot(pick).state == ACTIVE:
            with store.atomic():
                ids.append(store.add_slot(a_slot(f"memory number {step}.")).id)
                store.supersede_slot(pick, ids[-1])
        past.append((store.version(), datetime.now(UTC), store.slots(None)))
    for version, time, slots in past:
        assert store.slots(None, as_of=version) == slots == store.slots(None, as_of=time)
        assert store.slots(as_of=version) == [slot for slot in slots if slot.state == ACTIVE]
    assert store.slots(None, as_of=past[-1][0], limit=2, offset=1) == past[-1][2][1:3]
    assert store.slots(as_of=NOW - timedelta(days=365)) == []
    for version in (-1, store.version() + 1):
        with pytest.raises(InputError, match="no version"):
            store.slots(as_of=version)
    for how in ({"tag": "a"}, {"find": "memory"}, {"order": "alphabetical"}):
        with pytest.raises(InputError, match="cannot be filtered"):
            store.slots(as_of=store.version(), **how)


# -- sessions and turns ---------------------------------------------------------------------------------------------


def test_sessions_are_archived_and_found(store):
    monday, tuesday = store.new_session("Monday"), store.new_session("Tuesday")
    store.archive_session(monday.id)
    assert [session.id for session in store.sessions(archived=False)] == [tuesday.id]
    assert [session.title for session in store.sessions(archived=True)] == ["Monday"] and len(store.sessions()) == 2
    assert store.session("Monday").archived
    store.archive_session(monday.id, False)
    assert store.sessions(archived=True) == []
    with pytest.raises(InputError):
        store.archive_session("nobody")


def test_turns_are_found_by_what_was_said_in_them(store, open_store):
    first, second, _, third = (
        a_turn(store, text) for text in ("Hello there.", "Hello there.", "Hello", "Hello there.")
    )
    assert [turn.id for turn in store.turns_saying("Hello there.", last=2)] == [third.id, second.id]
    assert len(store.turns_saying("Hello there.", last=9)) == 3 and not store.turns_saying("hello there.", last=9)
    assert len(store.turns_saying("Hello there.", "Hello", last=1)) == 2
    assert not open_store("bob").turns_saying("Hello there.", last=9)


def test_turns_come_back_with_their_whole_trace_and_count_what_they_read(store, open_store):
    slot, other = store.add_slot(a_slot(tags=("x",))), store.add_slot(a_slot("I love tea."))
    reads = (Read(slot, 0.7, {"meaning": 1.5}, True), Read(other, 0.1, {}, False))
    turn = a_turn(store, reads=reads, writes=(Write(slot, 0.9, "update", other.id, 0.8),), timing={"total": 1.0})
    assert store.slot(slot.id).reads == 0
    store.save_turn(replace(turn, reply="Rex!"), finished=True)
    again = open_store()
    assert again.turn(turn.id) == replace(turn, reply="Rex!") and again.turns(turn.session) == [again.turn(turn.id)]
    assert (again.slot(slot.id).reads, again.slot(slot.id).last_read) == (1, NOW)
    assert again.slot(other.id).reads == 0 and again.slot(slot.id) == slot


def test_capacity_is_kept_and_leaves_room_beside_pinned_slots(store, open_store):
    assert store.capacity is None
    store.set_capacity(2)
    one, other = store.add_slot(a_slot()), store.add_slot(a_slot("I love tea."))
    assert open_store().capacity == 2
    store.pin_slot(one.id)
    with pytest.raises(InputError, match="must stay unpinned"):
        store.pin_slot(other.id)
    with pytest.raises(InputError, match="1 or more"):
        store.set_capacity(0)
    store.set_capacity(None)
    assert store.capacity is None and store.pin_slot(other.id).pinned


# -- purge ----------------------------------------------------------------------------------------------------------


def test_purge_of_many_takes_every_copy(store):
    secret = "My PIN is forty-two seventeen."
    text = f"Hello. {secret} Bye."
    slot = a_slot(secret)
    turn = a_turn(store, text, writes=(Write(slot, 0.9, "new"),), given=f"<user>{text}")
    store.add_slot(replace(slot, turn=turn.id), np.ones(2), "f")
    other, kept = store.add_slot(a_slot("I was born in Zanzibar.")), store.add_slot(a_slot("I love tea."))
    store.supersede_slot(kept.id, other.id)
    done = store.purge_slots([slot.id, other.id])
    assert set(done.slots) == {slot.id, other.id} and (done.versions, done.keys, done.turns) == (2, 1, 1)
    assert done.searched and done.encodings
    assert store.turn(turn.id).text == "Hello. [purged] Bye." and "forty" not in repr(store.turn(turn.id))
    assert [what(each) for each in store.slots(None)] == [(kept.text, SUPERSEDED, (), False, None)]
    assert store.slots(None, as_of=store.version()) == store.slots(None)
    with pytest.raises(InputError):
        store.purge_slots([slot.id])


def test_a_purge_of_something_unknown_purges_nothing(store):
    slot = store.add_slot(a_slot())
    with pytest.raises(InputError, match="nothing-like-it"):
        store.purge_slots([slot.id, "nothing-like-it"])
    assert store.slots() == [slot]
    with pytest.raises(InputError):
        store.purge_session("nothing-like-it")


def test_purge_of_a_session_spares_the_others(store):
    gone, stays = a_turn(store, "I was born in Zanzibar."), a_turn(store, "I love tea.")
    told = store.add_slot(a_slot("I was born in Zanzibar.", session=gone.session, turn=gone.id))
    kept = store.add_slot(a_slot("I love tea.", session=stays.session, turn=stays.id))
    done = store.purge_session(gone.session)
    assert (done.sessions, done.slots, done.turns) == ((gone.session,), (told.id,), 1)
    assert store.slots(None) == [kept] and [session.id for session in store.sessions()] == [stays.session]
    with pytest.raises(InputError, match="purged"):  # a reply that was still being spoken
        store.save_turn(replace(gone, id=new_id()))


def test_purge_of_everything_leaves_a_store_that_works(store, open_store):
    bob = open_store("bob")
    theirs = bob.add_slot(a_slot("Bob's own."))
    turn = a_turn(store)
    slot = store.add_slot(a_slot(turn=turn.id), np.ones(2), "f")
    done = store.purge_everything()
    assert done.slots == (slot.id,) and done.sessions == (turn.session,) and done.turns == 1
    assert store.slots(None) == [] == store.sessions() and bob.slots() == [theirs]
    assert store.slots() == [] and store.add_slot(a_slot("Anew.")) == store.slots()[0]
    assert store.purge_everything().versions == 1


def test_a_twin_with_another_past_goes_with_all_of_it(store):
    twin = store.add_slot(a_slot("Nobody knows Atlantis."))
    store.edit_slot(twin.id, "My PIN is forty-two.")
    turn = a_turn(store, "Nobody knows Atlantis. Really.")
    slot = store.add_slot(a_slot("My PIN is forty-two."))
    assert set(store.purge_slots([slot.id]).slots) == {slot.id, twin.id}
    assert "Atlantis" not in repr(store.turn(turn.id))


def test_the_day_and_the_tags_of_a_purged_memory_go_with_it(store):
    when, tags = "2027-03-03", ("zanzibar",)
    slot = a_slot("My exam is on 3 March 2027.", when=when, tags=tags)
    heard = Candidate(slot.text, "an exam", when=when, score=0.1, why="nothing to remember")
    turn = a_turn(store, slot.text, writes=(Write(slot, 0.9, "new"),), reads=(Read(slot, 0.5),), rejected=(heard,))
    store.add_slot(replace(slot, turn=turn.id))
    leaning = store.add_slot(a_slot(f"{slot.text} It is hard.", said="It is hard.", when=when, tags=("kept",)))
    dated = store.add_slot(a_slot(f"{slot.text} It ends on 5 March 2027.", said="It ends.", when=when))
    store.purge_slots([slot.id])
    assert when not in repr(store.turn(turn.id)) and "zanzibar" not in repr(store.turn(turn.id))
    assert (store.slot(leaning.id).when, store.slot(leaning.id).tags) == (None, ("kept",))
    assert store.slot(dated.id).when == "2027-03-05"
    assert store.slots(None, as_of=store.version()) == store.slots(None)


def test_who_still_sees_a_text_that_was_cut_cannot_save_it_again(store):
    slot = store.add_slot(a_slot("My PIN is 42 17."))
    leaning = store.add_slot(a_slot("My PIN is 42 17. Nobody knows it."))
    store.purge_slots([slot.id])
    with pytest.raises(ConflictError, match="version 2"):
        store.edit_slot(leaning.id, "My PIN is 42 17. Nobody else knows it.", version=leaning.version)
    assert store.slot(leaning.id).text == "Nobody knows it."


def test_words_inside_longer_words_stay(store):
    store.add_slot(a_slot("Rexona is a brand."))
    store.purge_slots([store.add_slot(a_slot("Rexona")).id])
    assert [slot.text for slot in store.slots()] == ["is a brand."]
    store.add_slot(a_slot("Maximal effort."))
    store.purge_slots([store.add_slot(a_slot("Max")).id])
    assert [slot.text for slot in store.slots()] == ["is a brand.", "Maximal effort."]


# -- users ----------------------------------------------------------------------------------------------------------


def test_no_operation_reaches_another_user(open_store):
    """Every public method of a store with another user's ids; a new method must be added here to pass."""
    ann, bob = open_store("ann"), open_store("bob")
    turn = a_turn(ann)
    slot = ann.add_slot(a_slot(session=turn.session, turn=turn.id, tags=("x",)), np.ones(2), "f")
    mine = bob.new_session("mine").id

    def everything() -> tuple:
        slots = ann.slots(None)
        return (
            slots, [(each.reads, each.last_read) for each in slots], ann.versions(slot.id), ann.turns(turn.session),
            ann.sessions(), ann.version(), ann.capacity, ann.keys([slot.id], "f"),
        )  # fmt: skip

    before = everything()
    refused = {
        "slot": lambda: bob.slot(slot.id),
        "versions": lambda: bob.versions(slot.id),
        "edit_slot": lambda: bob.edit_slot(slot.id, "x"),
        "delete_slot": lambda: bob.delete_slot(slot.id),
        "restore_slot": lambda: bob.restore_slot(slot.id),
        "archive_slot": lambda: bob.archive_slot(slot.id),
        "supersede_slot": lambda: bob.supersede_slot(slot.id, slot.id),
        "pin_slot": lambda: bob.pin_slot(slot.id),
        "tag_slot": lambda: bob.tag_slot(slot.id, ["y"]),
        "purge_slots": lambda: bob.purge_slots([slot.id]),
        "undo": lambda: bob.undo(),
        "turn": lambda: bob.turn(turn.id),
        "around": lambda: bob.around(turn.id),
        "reads_of": lambda: bob.reads_of(slot.id),
        "remove_turn": lambda: bob.remove_turn(turn.id),
        "save_turn": lambda: bob.save_turn(turn),  # the very id of ann's
        "rename_session": lambda: bob.rename_session(turn.session, "mine"),
        "archive_session": lambda: bob.archive_session(turn.session),
        "purge_session": lambda: bob.purge_session(turn.session),
    }
    for name, call in refused.items():
        with pytest.raises(InputError):
            call()
            pytest.fail(name)
    empty = {
        "slots": lambda: bob.slots(None) + bob.slots(None, id=slot.id) + bob.slots(as_of=bob.version())
        + bob.slots(None, session=turn.session, turn=turn.id) + bob.slots(None, ids=[slot.id]),
        "count": lambda: bob.count(None),
        "least_used": lambda: bob.least_used(9),
        "ids": lambda: bob.ids(),
        "tags": lambda: bob.tags(None),
        "origins": lambda: sum(bob.origins(), []),
        "session": lambda: bob.session(turn.session),
        "named": lambda: bob.named(turn.session),
        "sessions": lambda: [session for session in bob.sessions() if session.id != mine],
        "turns": lambda: bob.turns(turn.session),
        "turns_saying": lambda: bob.turns_saying(turn.text, last=9),
        "keys": lambda: bob.keys([slot.id], "f"),
        "without_key": lambda: bob.without_key("f"),
        "purged": lambda: bob.purged,
        "set_keys": lambda: bob.set_keys([slot], np.zeros((1, 2)), "f"),
        "changes": lambda: bob.changes(-1)[1] + bob.changes(-1)[2],
    }  # fmt: skip
    for name, call in empty.items():
        assert not call(), name
    bob.set_capacity(1)
    read = Turn(new_id(), mine, "x", "", NOW, reads=(Read(slot, 1.0),))  # forged: counts as a use of nobody's slot
    bob.save_turn(read, finished=True)
    bob.purge_everything()
    assert everything() == before
    harmless = {  # take no id
        "user", "file", "place", "database", "close", "atomic", "version", "capacity", "set_capacity", "new_session",
        "add_slot", "add_slots", "purge_everything",
    }  # fmt: skip
    public = {name for name, _ in inspect.getmembers(bob) if not name.startswith("_")}
    assert public == refused.keys() | empty.keys() | harmless


def test_two_users_may_hold_the_same_export(open_store):
    ann, bob = open_store("ann"), open_store("bob")
    slot = a_slot()
    assert ann.add_slot(slot) == bob.add_slot(slot)
    bob.purge_slots([slot.id])
    assert ann.slots() == [slot]
