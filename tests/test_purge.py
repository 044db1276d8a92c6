"""After a purge the text is in no file, in no encoding, whoever has the files open; and the certificate says so."""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mam import backup, exchange, places, residue
from mam.erasure import finder
from mam.errors import InputError, RemainsError, StoreError
from mam.places import Fit, Place
from mam.serve import problems
from mam.store import Store, new_id
from mam.values import Candidate, Read, Slot, Turn, Write

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECRET = 'Mein "Geheimnis" ist Größe\\42 bei Zanzibar.'


def a_slot(text=SECRET, **fields) -> Slot:
    return Slot(**{"id": new_id(), "text": text, "said": text, "speaker": "user", "told": NOW} | fields)


def encodings(text: str) -> list[bytes]:
    """The bytes of a text as any program might have written them; written anew here, not taken from the product."""
    forms = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], text.upper(), text.lower()}
    return [form.encode(name) for form in forms for name in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "latin-1")]


def left_of(text: str, folder: Path) -> list[str]:
    return [
        f"{file.name}: {form[:20]}"
        for file in folder.rglob("*")
        if file.is_file()
        for form in encodings(text)
        if form in file.read_bytes()
    ]


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path, "ann")
    yield store
    store.close()


@pytest.fixture
def slot(store):
    """A memory with a past: told in a turn, edited, read, quoted as context, in keys of two models, in an export."""
    session = store.new_session(f"About {SECRET}")
    slot = a_slot(session=session.id)
    key = np.random.default_rng(0).standard_normal(64).astype("<f4")
    turn = Turn(
        new_id(), session.id, f"Hello. {SECRET} Bye.", f"So {SECRET}", NOW,
        writes=(Write(slot, 0.9, "new"),),
        reads=(Read(slot, 0.7, {"meaning": 1.0}),),
        rejected=(Candidate("Bye.", "Bye.", context=SECRET, score=0.1, why="nothing to remember"),),
        given=f"[0.70] {SECRET}\n\n<user>{SECRET}",
    )  # fmt: skip
    slot = replace(slot, turn=turn.id)
    store.save_turn(turn)
    store.add_slot(slot, key, "f1")
    store.set_keys([slot], key[None] * 2, "f2")
    store.edit_slot(slot.id, f"{SECRET} And more.", when="2026-11-27")
    store.undo()
    exchange.export(exchange.Exported(store.slots(None)), store.file.parent / "mine.jsonl", "ann")
    return slot


def test_nothing_is_left_in_any_encoding(store, slot, tmp_path):
    kept = store.add_slot(a_slot("I love tea."))
    assert left_of(SECRET, tmp_path)
    done = store.purge_slots([slot.id])
    assert left_of(SECRET, tmp_path) == [] and left_of("Geheimnis", tmp_path) == []
    assert (done.slots, done.versions, done.keys, done.turns) == ((slot.id,), 3, 0, 1)
    assert {place.name for place in done.searched} >= {"memory-ann.db", "mine.jsonl"}
    for place in done.searched:  # whoever doubts it can search the same bytes
        content = (tmp_path / place.name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (place.size, place.sha256), place.name
    assert SECRET not in repr(done) and store.slots(None) == [kept]
    assert "[purged]" in store.turns(slot.session)[0].text


def test_vectors_go_too(store, tmp_path):
    key = np.random.default_rng(1).standard_normal(64).astype("<f4")
    slot = store.add_slot(a_slot(), key, "f1")
    done = store.purge_slots([slot.id])
    assert done.keys == 1 and not any(key.tobytes()[:16] in file.read_bytes() for file in tmp_path.iterdir())


def test_a_vector_that_another_slot_shares_stays_with_that_one(store, tmp_path):
    """Texts that only differ after the encoder's last token have the same vector."""
    key = np.random.default_rng(1).standard_normal(64).astype("<f4")
    slot, other = store.add_slot(a_slot(), key, "f1"), store.add_slot(a_slot("I love tea."), key, "f1")
    zeros = store.add_slot(a_slot("Nothing at all."), np.zeros(64), "f1")
    assert store.purge_slots([slot.id]).keys == 1 == store.purge_slots([zeros.id]).keys
    assert store.keys([other.id], "f1")[other.id] == key.tobytes() and left_of(SECRET, tmp_path) == []


def test_no_piece_is_left_in_pages_that_were_rearranged(store, tmp_path, monkeypatch):
    """Edits of neighbours move rows from page to page; what they leave behind must go, too, down to a few letters."""
    draw, rewritten = random.Random(0), rewriting(store, monkeypatch)
    store.add_slots([a_slot(draw.randbytes(draw.randint(10, 60)).hex()) for _ in range(600)])
    ids = [slot.id for slot in store.slots()]
    for _ in range(500):
        store.edit_slot(draw.choice(ids), draw.randbytes(draw.randint(10, 400)).hex())
    for id in draw.sample(ids, 15):
        texts = {version.text for version in store.versions(id)}
        store.purge_slots([id])
        content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        for text in texts:
            for start in range(len(text) - 12):
                assert text[start : start + 12].encode() not in content
    assert 0 < len(rewritten) < 15, "the file is rewritten when something is left, and only then"


def rewriting(store, monkeypatch) -> list:
    """Notes every time that the whole file is rewritten."""
    done, maintain = [], store.database.maintain
    monkeypatch.setattr(store.database, "maintain", lambda *how: done.append(how) or maintain(*how))
    return done


def pieces_left(vectors: list[bytes], folder: Path) -> list[bytes]:
    """Numbers of these vectors, eight bytes each, that stand anywhere."""
    content = b"".join(file.read_bytes() for file in folder.iterdir())
    parts = [vector[at : at + 8] for vector in vectors for at in range(0, len(vector), 8)]
    return [part for part in parts if part in content]


def test_no_piece_of_a_key_is_left_either(store, tmp_path, monkeypatch):
    """Not of those of earlier texts, which nobody knows any more."""
    draw, numbers, rewritten = random.Random(0), np.random.default_rng(0), rewriting(store, monkeypatch)
    held: dict[str, list[bytes]] = {}
    for number in range(300):
        slot, key = (
            a_slot(f"My number is {number} {draw.randbytes(9).hex()}."),
            numbers.standard_normal(64).astype("<f4"),
        )
        store.add_slot(slot, key, "f1")
        held[slot.id] = [key.tobytes()]
    for id in draw.choices(sorted(held), k=250):
        key, text = numbers.standard_normal(64).astype("<f4"), f"Now it is {draw.randbytes(draw.randint(5, 90)).hex()}."
        store.edit_slot(id, text, key=key, fingerprint="f1")
        held[id].append(key.tobytes())
    for id in draw.sample(sorted(held), 20):
        store.purge_slots([id])
        assert pieces_left(held[id], tmp_path) == []
    assert len(rewritten) < 20, "the file is rewritten only when something may be left: never, if pages fell luckily"


def test_nothing_is_left_of_where_a_slot_was_on_any_map(store, tmp_path, monkeypatch):
    """Nor of where it was on earlier ones; and the file is not rewritten each time because a slot lies on a map."""
    draw, numbers, rewritten = random.Random(0), np.random.default_rng(0), rewriting(store, monkeypatch)
    store.add_slots([a_slot(f"My number is {number}.") for number in range(300)])
    slots, held = store.slots(None), {slot.id: [] for slot in store.slots(None)}
    for _ in range(4):
        for dimensions in (2, 3):
            found = numbers.standard_normal((300, dimensions))
            with store.atomic() as tx:
                places.replace(tx, "f1", dimensions, Fit("UMAP", {}, NOW), slots, found)
            for slot, at in zip(slots, found, strict=True):
                held[slot.id].append(at.tobytes())
        for slot in draw.sample(slots, 60):  # as if edited and looked at
            with store.atomic() as tx:
                _, known = places.read(tx.connection, "f1", 2)
                at = numbers.standard_normal(2)
                places.put(tx, "f1", 2, [slot], [Place(1, False, at, known[slot.id].coordinates)])
            held[slot.id].append(at.tobytes())
    for slot in draw.sample(slots, 30):
        assert store.purge_slots([slot.id]).places == 2
        assert pieces_left(held[slot.id], tmp_path) == []
    assert len(rewritten) < 15


def test_the_context_of_later_turns_is_cut_without_leaving_an_end(store, tmp_path):
    """A trace keeps the last 400 characters of what was said before: the end of a longer text."""
    secret = "My PIN is " + "very " * 90 + "secret Zanzibar."
    session = store.new_session().id
    first = Turn(new_id(), session, secret, "", NOW)
    store.save_turn(first)
    context = (secret + " Bye.")[-400:]
    later = Turn(new_id(), session, "Bye.", "", NOW, rejected=(Candidate("Bye.", "Bye.", context=context),))
    given = f"(only the last 60 of 800 characters fit)\n\n{secret[-60:]}!"
    long = Turn(new_id(), session, f"So. {secret}", "", NOW, given=given)
    store.save_turn(later)
    store.save_turn(long)
    slot = store.add_slot(a_slot(secret, session=session, turn=first.id))
    store.purge_slots([slot.id])
    assert left_of("Zanzibar", tmp_path) == []
    assert store.turn(later.id).rejected[0].context == "[purged] Bye."


def test_text_that_the_trace_shows_with_other_blanks_goes_too(store, tmp_path):
    slot = store.add_slot(a_slot("My PIN is\nforty-two, in\n\nZanzibar."))
    session = store.new_session().id
    shown = " ".join(slot.text.split())
    store.save_turn(Turn(new_id(), session, "What?", "", NOW, given=f"[0.70] {shown}\n\n<user>What?"))
    store.purge_slots([slot.id])
    assert left_of("Zanzibar", tmp_path) == []


def test_many_are_purged_as_one_is(store, tmp_path):
    """A long conversation in which later messages repeat, shorten and quote what was told before."""
    session = store.new_session("Monday").id
    kept = store.new_session("Tuesday").id
    told = [f"My friend number {n} lives in Zanzibar {n}." for n in range(60)] + ["Oslo", "ab"]
    for number, text in enumerate(told):
        slot = a_slot(text, session=session, turn=new_id())
        store.save_turn(Turn(slot.turn, session, text, "", NOW, writes=(Write(slot, 0.9, "new"),)))
        store.add_slot(slot)
        context = ("So " * 200 + text + " So it is.")[-400:]
        quote = Turn(
            new_id(), kept, f"{text} Yes. {told[number // 2]}", "", NOW, given=f"[0.70] {text}\n\n<user>{text}"
        )
        store.save_turn(replace(quote, rejected=(Candidate("Yes.", "Yes.", context=context),)))
    done = store.purge_session(session)
    assert len(done.slots) == 62 and done.turns == 62 + 62 and left_of("Zanzibar", tmp_path) == []
    first, *_, last = store.turns(kept)
    assert first.text == "[purged] Yes. [purged]" and last.text == "[purged] Yes. [purged]"
    assert (
        first.rejected[0].context.endswith("[purged] So it is.") and first.given == "[0.70] [purged]\n\n<user>[purged]"
    )


@given(st.lists(st.text("ab c", max_size=30), max_size=40), st.text("ab c", max_size=200))
@settings(max_examples=200)
def test_texts_are_found_however_many_they_are(texts, value):
    found = finder(texts)(value)
    assert set(found) == {text for text in texts if text and text in value}
    assert [len(text) for text in found] == sorted(map(len, found), reverse=True)
    many = [*texts, *(f"text number {number} that is nowhere" for number in range(40))]
    assert finder(many)(value) == found
    wanted = [form for text in many for form in residue.patterns(text) if len(form) > 3]
    content = value.encode("utf-16-le") + value.encode()
    assert residue._holds(content, wanted) == any(each in content for each in wanted)


# -- other programs, other files --------------------------------------------------------------------------------------

HOLDER = """
import sys
from mam.store import Store
store = Store(sys.argv[1], "ann")
print(len(store.slots(None)), flush=True)
if sys.argv[2] == "reading":
    with store.database.reading() as connection:
        print(connection.exec_driver_sql("SELECT count(*) FROM slots").scalar(), flush=True)
        sys.stdin.readline()
else:
    print(len(store.slots(None)), flush=True)
    sys.stdin.readline()
print(len(store.slots(None)), flush=True)
sys.stdin.readline()
"""


def holder(folder: Path, how: str) -> subprocess.Popen:
    """Another program with the memory open, which has read all of it; waits for a line."""
    command = [sys.executable, "-c", HOLDER, str(folder), how]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.stdout.readline()
    return process


def test_while_another_program_has_it_open(store, slot, tmp_path):
    others = [holder(tmp_path, "idle") for _ in range(2)]
    store.purge_slots([slot.id])
    assert left_of(SECRET, tmp_path) == []
    for other in others:
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "0\n"  # they see it, and write nothing old back
        assert left_of(SECRET, tmp_path) == []
        other.communicate("\n", timeout=20)
    assert left_of(SECRET, tmp_path) == []


def test_a_program_that_is_reading_is_waited_for_then_named_and_the_rest_done_later(store, slot, tmp_path, monkeypatch):
    monkeypatch.setattr("mam.database.BUSY_SECONDS", 0.2)
    other, mine = holder(tmp_path, "reading"), Store(tmp_path, "ann")
    with pytest.raises(StoreError, match="another program"):
        mine.purge_slots([slot.id])
    assert mine.slots(None) == []  # purged all the same, and nobody reads it any more
    other.communicate("\n\n", timeout=20)
    mine.close()
    store.close()
    Store(tmp_path, "ann").close()
    assert left_of(SECRET, tmp_path) == []


def test_a_full_disk_while_overwriting_is_named_and_the_rest_done_later(store, tmp_path, monkeypatch):
    slot = store.add_slot(a_slot("ab", said=SECRET))  # so short that the whole file has to be rewritten
    with monkeypatch.context() as patch:
        full = StoreError("The disk is full; free space.")
        patch.setattr(store.database, "maintain", lambda *_: (_ for _ in ()).throw(full))
        with pytest.raises(StoreError, match="is purged .* next opened. The disk is full"):
            store.purge_slots([slot.id])
    assert store.slots(None) == [] and len(list(tmp_path.glob("memory-ann.db-purging-*"))) == 1
    again = Store(tmp_path, "ann")  # when it is next opened ...
    assert left_of(SECRET, tmp_path) == [] and list(tmp_path.glob("*-purging-*")) == []
    again.close()


def test_what_one_purge_could_not_overwrite_the_next_one_does(store, tmp_path, monkeypatch):
    slot, other = store.add_slot(a_slot("ab", said=SECRET)), store.add_slot(a_slot("I was born in Zanzibar."))
    with monkeypatch.context() as patch, pytest.raises(StoreError, match="is purged"):
        patch.setattr(store.database, "maintain", lambda *_: (_ for _ in ()).throw(StoreError("Full.")))
        store.purge_slots([slot.id])
    rewritten = rewriting(store, monkeypatch)
    store.purge_slots([other.id])  # by itself, it would leave the file as it is
    assert len(rewritten) == 1 and left_of(SECRET, tmp_path) == [] and list(tmp_path.glob("*-purging-*")) == []
    with pytest.raises(InputError):
        store.purge_slots(["nothing-like-it"])
    assert list(tmp_path.glob("*-purging-*")) == []  # nothing was purged: nothing is left to do


WRITER = """
import sys
from datetime import UTC, datetime
from mam.store import Store, new_id
from mam.values import Slot

store = Store(sys.argv[1], "ann")
while True:
    slot = store.add_slot(Slot(new_id(), "x" * 300, "said", "user", datetime.now(UTC)))
    store.edit_slot(slot.id, "y" * 200)
    print(slot.id, flush=True)
"""


def test_while_another_program_writes(store, tmp_path):
    """Neither program loses anything, and of what was purged nothing is left."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    acknowledged, mine, gone = [writer.stdout.readline().strip()], [], []
    for number in range(15):
        gone.append(store.add_slot(a_slot(f"My PIN is {number} {secrets.token_hex(9)}.")))
        mine.append(store.add_slot(a_slot(f"I know person {number}.")).id)
        store.purge_slots([gone[-1].id])
        acknowledged.append(writer.stdout.readline().strip())  # it got to write meanwhile, however slow the machine
    writer.kill()
    acknowledged += writer.stdout.read().split()
    writer.wait()
    store.close()  # before the files are opened here: see `RawFile`
    assert [left for slot in gone for left in left_of(slot.text, tmp_path)] == []
    again = Store(tmp_path, "ann")
    assert {slot.id for slot in again.slots()} >= {*mine, *acknowledged} and len(acknowledged) > 15
    with again.database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


PURGER = """
import os, signal, subprocess, sys
from datetime import UTC, datetime
from mam.store import Store, new_id
from mam.values import Slot

store = Store(sys.argv[1], "ann")
one, two = (Slot(new_id(), f"My PIN is {word}.", "said", "user", datetime.now(UTC)) for word in ("Rome", "Oslo"))
store.add_slot(one)
store.purge_slots([one.id])
other = "import sys; from mam.store import Store; store = Store(sys.argv[1], 'ann'); store.slots(); store.close()"
subprocess.run([sys.executable, "-c", other, sys.argv[1]], check=True)
store.add_slot(two)
print(two.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_purge_no_other_program_takes_the_memory_for_closed(tmp_path):
    """Looking into the file must not cost SQLite its locks on it: the log would be deleted, and what is told later."""
    done = subprocess.run([sys.executable, "-c", PURGER, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert [slot.id for slot in Store(tmp_path, "ann").slots()] == done.stdout.split() != [], done.stderr


def test_exports_under_the_folder_are_cleaned_and_other_files_named(store, slot, tmp_path):
    kept = store.add_slot(a_slot("I love tea."))
    (tmp_path / "sub").mkdir()
    exchange.export(exchange.Exported(store.slots(None)), tmp_path / "sub" / "mine.jsonl", "ann")
    exchange.export(exchange.Exported(store.slots(None)), tmp_path / "sub" / "mine.bak", "ann")
    killed = tmp_path / "sub" / f".mine.jsonl{exchange.PART}"  # an export that was killed while it was written
    killed.write_bytes((tmp_path / "sub" / "mine.bak").read_bytes()[:-40])
    exchange.export(backup.everything(store), tmp_path / "all.jsonl", "ann", complete=True)
    exchange.export(exchange.Exported(store.slots(None)), tmp_path / "bobs.jsonl", "bob")
    before = (tmp_path / "bobs.jsonl").read_bytes()
    note = tmp_path / "note.txt"
    note.write_text(f"Remember: {SECRET}", encoding="utf-16")
    with pytest.raises(RemainsError, match="note.txt") as told:
        store.purge_slots([slot.id])
    assert "purged" in problems.line(told.value) and "note.txt" not in problems.line(told.value)  # to clients
    note.unlink()
    assert exchange.load(tmp_path / "sub" / "mine.jsonl").slots == [kept] and not killed.exists()
    assert exchange.load(tmp_path / "sub" / "mine.bak").slots == [kept]
    assert (tmp_path / "bobs.jsonl").read_bytes() == before  # another user's file is theirs
    (tmp_path / "bobs.jsonl").unlink()
    assert "[purged]" in exchange.load(tmp_path / "all.jsonl").turns[0].text
    assert store.purge_session(slot.session).sessions == (slot.session,)
    assert exchange.load(tmp_path / "all.jsonl") == exchange.Exported(slots=[kept], versions=store.versions(kept.id))
    assert left_of(SECRET, tmp_path) == []


def test_another_users_memory_of_the_same_words_is_neither_touched_nor_told(store, slot, tmp_path):
    bob = Store(tmp_path, "bob")
    theirs = bob.add_slot(a_slot())
    done = store.purge_slots([slot.id])
    assert not any("bob" in place.name for place in done.searched)
    assert bob.slots() == [theirs]


def test_everything_of_a_large_memory(tmp_path):
    store = Store(tmp_path, "ann")
    store.add_slots([a_slot(f"My number {n} is {secrets.token_hex(8)} and Zanzibar.") for n in range(3000)])
    done = store.purge_everything()
    assert len(done.slots) == 3000 and left_of("Zanzibar", tmp_path) == []
    assert store.file.stat().st_size < 400_000


@pytest.mark.parametrize("text", ["ab", "é", "42", "🧀"])
def test_short_texts_are_overwritten_too(store, text, tmp_path):
    filler = [store.add_slot(a_slot(f"filler {n}", tags=("t",))) for n in range(20)]
    slot = store.add_slot(a_slot(text, said="something else entirely"))
    store.purge_slots([slot.id])
    assert len(store.slots()) == 20 == len(filler) and left_of("something else entirely", tmp_path) == []
