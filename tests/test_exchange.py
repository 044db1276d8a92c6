"""Memories in and out: round trips are identical, conversations and documents come in, bad files are named."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from datetime import UTC, datetime

import pytest

from mam import exchange
from mam.errors import InputError
from mam.store import Store
from mam.values import Archived, Candidate, Read, Session, Slot, Turn, Version, Write

SHORT = {"max_tokens": 8}
DOG = "My dog is called Rex."


@pytest.fixture
def lived(m, tmp_path):
    """A space in which something of every kind has happened."""
    chat = m.session("Monday")
    slot = chat.send(f"{DOG} Hello!", **SHORT).writes[0].slot
    m.session().send("What is my dog called? «é» 🧀", **SHORT)
    m.tag(slot.id, "pets", 'odd "tag"')
    m.pin(slot.id)
    m.edit(m.add("My exam is on 3 March 2027.").id, "My exam is on 4 March 2027.")
    chat.send("Actually, my dog is called Max now.", **SHORT)
    m.delete(m.add("Into the trash.").id)
    (tmp_path / "notes.md").write_text("The train leaves at nine.\n", encoding="utf-8")
    m.ingest(tmp_path / "notes.md")
    m.archive_session(chat.id)
    return m


# -- round trips ----------------------------------------------------------------------------------------------------


def test_a_complete_export_is_an_exact_copy(lived, open_space, tmp_path):
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    assert lived.export(first, complete=True) == len(lived.slots(None)) == 5
    copy = open_space(folder="elsewhere")
    assert copy.import_(first) == lived.slots(None)
    assert copy.export(second, complete=True) == 5 and first.read_bytes() == second.read_bytes()
    assert copy.slots(None) == lived.slots(None) and copy.sessions() == lived.sessions()
    for slot, same in zip(lived.slots(None), copy.slots(None), strict=True):
        assert lived.versions(slot.id) == copy.versions(slot.id)
        assert (slot.reads, slot.last_read) == (same.reads, same.last_read)
    for session in lived.sessions():
        assert copy.turns(session.id) == lived.turns(session.id)
    assert copy.read("What is my dog called?").reads == lived.read("What is my dog called?").reads
    then = lived.versions(lived.slots(None)[0].id)[0].at
    assert copy.slots(None, as_of=then) == lived.slots(None, as_of=then)
    assert copy.import_(first) == [] and copy.export(second, complete=True) == 5
    assert first.read_bytes() == second.read_bytes()


def test_an_ordinary_export_holds_slots_alone_and_round_trips(lived, open_space, tmp_path):
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    assert lived.export(first) == 4
    assert "trash" not in first.read_text("utf-8") and "Hello" not in first.read_text("utf-8")
    copy = open_space(folder="elsewhere")
    copy.import_(first)
    copy.export(second)
    assert first.read_bytes() == second.read_bytes()
    assert {version.by for slot in copy.slots(None) for version in copy.versions(slot.id)} == {"import"}
    copy.undo()
    assert copy.slots() == [] and len(copy.slots("deleted")) == 4


def test_the_format_is_described_field_by_field():
    told = exchange.__doc__.partition(f"Version {exchange.VERSION}, field by field")[2]
    for kind in (Slot, Version, Session, Turn, Write, Candidate, Read, Archived):
        for field in fields(kind):
            if (kind, field.name) not in ((Session, "turns"), (Session, "temporary")):  # counted; never kept
                assert re.search(rf"\b{field.name}\b", told), (kind, field.name)


def test_a_purge_reaches_what_a_complete_import_brought(lived, open_space, tmp_path):
    lived.export(tmp_path / "all.jsonl", complete=True)
    copy = open_space(folder="elsewhere")
    copy.import_(tmp_path / "all.jsonl")
    for slot in copy.slots(None):
        copy.purge(slot.id)
    assert not any(b"Rex" in file.read_bytes() for file in (tmp_path / "elsewhere").iterdir())


def test_files_of_the_first_format_are_read(m, tmp_path):
    slot = {
        "id": "a" * 16, "text": DOG, "said": DOG, "speaker": "user", "told": "2026-11-22T12:00:00+00:00", "when": None,
        "state": "active", "version": 2, "session": "s" * 16, "turn": None, "span": [0, 21], "score": 0.9,
        "superseded_by": None,
    }  # fmt: skip
    file = tmp_path / "old.jsonl"
    file.write_text('{"mam": "slots", "version": 1}\n' + json.dumps(slot) + "\n")
    (found,) = m.import_(file)
    assert (found.text, found.version, found.tags, found.told) == (DOG, 2, (), datetime(2026, 11, 22, 12, tzinfo=UTC))


# -- bad lines ------------------------------------------------------------------------------------------------------

HEADER = json.dumps({"mam": "memory", "version": 2, "user": "ann"})
GOOD = {
    "kind": "slot", "id": "good-slot-000001", "text": DOG, "said": DOG, "speaker": "user", "state": "active",
    "told": "2026-11-22T12:00:00+00:00", "version": 1, "tags": ["x"], "pinned": False,
}  # fmt: skip
BAD = {
    "not json": "{",
    "not an object": "[1]",
    "unknown kind": json.dumps(GOOD | {"kind": "spell"}),
    "no text": json.dumps({name: value for name, value in GOOD.items() if name != "text"}),
    "empty text": json.dumps(GOOD | {"text": " "}),
    "huge text": json.dumps(GOOD | {"text": "x" * 2001}),
    "huge speaker": json.dumps(GOOD | {"speaker": "x" * 201}),
    "control character": json.dumps(GOOD | {"text": "a\x00b"}),
    "escape sequence": json.dumps(GOOD | {"said": "a\x1b[31mb"}),
    "half a character": json.dumps(GOOD | {"text": "a\ud800b"}),
    "deep nesting": '{"kind": "slot", "id": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "deep tags": json.dumps(GOOD)[:-1] + ', "span": ' + "[" * 5_000 + "]" * 5_000 + "}",
    "odd id": json.dumps(GOOD | {"id": "../../etc/passwd"}),
    "id is a number": json.dumps(GOOD | {"id": 5}),
    "unknown state": json.dumps(GOOD | {"state": "asleep"}),
    "endless version": json.dumps(GOOD).replace('"version": 1', '"version": 1e999'),
    "long version": json.dumps(GOOD).replace('"version": 1', '"version": ' + "9" * 5_000),
    "no number": json.dumps(GOOD | {"score": float("nan")}),
    "version is true": json.dumps(GOOD | {"version": True}),
    "time without zone": json.dumps(GOOD | {"told": "2026-11-22T12:00:00"}),
    "time that is none": json.dumps(GOOD | {"told": "Tuesday"}),
    "tags that are none": json.dumps(GOOD | {"tags": "x"}),
    "pinned maybe": json.dumps(GOOD | {"pinned": "maybe"}),
    "odd span": json.dumps(GOOD | {"span": [1]}),
    "span beyond all numbers": json.dumps(GOOD | {"span": [10**30, 10**30 + 1]}),
    "span of texts": json.dumps(GOOD | {"span": "ab"}),
    "endless score": json.dumps(GOOD)[:-1] + ', "score": 1e400}',
    "reads beyond all numbers": json.dumps(GOOD | {"reads": 1 << 40}),
    "half a character in a tag": json.dumps(GOOD | {"tags": ["a\ud800b"]}),
    "control character in a tag": json.dumps(GOOD | {"tags": ["a\x00b"]}),
    "too many tags": json.dumps(GOOD | {"tags": [str(n) for n in range(33)]}),
    "time before all time": json.dumps(GOOD | {"told": "0001-01-01T00:00:00+23:59"}),
    "time after all time": json.dumps(GOOD | {"last_read": "9999-12-31T23:59:59-23:59"}),
    "same id": json.dumps(GOOD),
    "version of nothing": json.dumps({"kind": "version", "slot": "nothing-like-it", "by": "user"}),
    "turn of nothing": json.dumps({"kind": "turn", "id": "t" * 16}),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_line_is_named_and_nothing_or_the_rest_imported(m, tmp_path, bad):
    file = tmp_path / "bad.jsonl"
    last = json.dumps(GOOD | {"id": "good-slot-000002", "text": "I love tea."})
    file.write_text("\n".join([HEADER, json.dumps(GOOD), "", bad, last]) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="Line 4") as error:
        m.import_(file)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 600
    assert m.slots(None) == []
    named = []
    assert [slot.id for slot in m.import_(file, lambda number, why: named.append((number, why)))] == [
        "good-slot-000001", "good-slot-000002",
    ]  # fmt: skip
    assert [number for number, _ in named] == [4] and named[0][1]


SESSION = {
    "kind": "session", "id": "session-00000001", "title": "Monday", "created": "2026-11-22T12:00:00+00:00",
    "archived": False,
}  # fmt: skip
TOLD = {name: value for name, value in GOOD.items() if name != "kind"} | {"span": None}
WROTE = {"slot": TOLD, "score": 0.9, "relation": "new"}
TRACE = {
    "writes": [WROTE], "rejected": [{"text": "Hi.", "said": "Hi.", "span": [0, 3], "score": 0.1}],
    "reads": [{"slot": TOLD, "weight": 0.5, "parts": {"meaning": 1}, "given": True}], "null_weight": 1,
    "timing": {"total": 0.5},
}  # fmt: skip
TURN = {
    "kind": "turn", "id": "turn-00000000001", "session": SESSION["id"], "text": "x" * 100_000, "reply": "\0Nice!",
    "at": "2026-11-22T12:00:00+00:00", "trace": TRACE,
}  # fmt: skip
BAD_TURNS = {
    "half a character in a reply": {"reply": "a\ud800b"},
    "half a character in a trace": {"trace": TRACE | {"given": "a\ud800b"}},
    "huge text": {"text": "x" * 100_001},
    "no trace": {"trace": None},
    "unknown field": {"trace": TRACE | {"spell": 1}},
    "text for a number": {"trace": TRACE | {"null_weight": "heavy"}},
    "number for a text": {"trace": TRACE | {"given": 5}},
    "list for a number": {"trace": TRACE | {"timing": {"total": [[[]]]}}},
    "number for truth": {"trace": TRACE | {"abstained": 1}},
    "weight that is none": {"trace": TRACE | {"reads": [TRACE["reads"][0] | {"weight": None}]}},
    "odd span": {"trace": TRACE | {"rejected": [TRACE["rejected"][0] | {"span": [1]}]}},
    "slot without a time zone": {"trace": TRACE | {"writes": [WROTE | {"slot": TOLD | {"told": "2026-11-22"}}]}},
    "unknown relation": {"trace": TRACE | {"writes": [WROTE | {"relation": "spell"}]}},
    "unknown state": {"trace": TRACE | {"writes": [WROTE | {"slot": TOLD | {"state": "asleep"}}]}},
    "endless text": {"trace": TRACE | {"given": "x" * 1_000_001}},
    "slot that is none": {"trace": TRACE | {"writes": [WROTE | {"slot": "x"}]}},
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_TURNS.values(), ids=BAD_TURNS)
def test_a_turn_that_could_not_be_shown_is_named(m, tmp_path, bad):
    file, good = tmp_path / "bad.jsonl", {**TURN, "id": "turn-00000000002"}
    file.write_text("\n".join([HEADER, *map(json.dumps, (SESSION, TURN | bad, good))]) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="Line 3") as error:
        m.import_(file)
    assert len(str(error.value).splitlines()) == 1 and m.sessions() == []
    m.import_(file, lambda number, why: None)
    (turn,) = m.turns(SESSION["id"])
    assert turn.id == good["id"] and turn.text == TURN["text"] and turn.reads[0].slot.text == DOG


def test_a_file_from_which_lines_were_cut_still_leads_to_what_is_now(lived, open_space, tmp_path):
    file = tmp_path / "all.jsonl"
    lived.export(file, complete=True)
    lines = file.read_text("utf-8").splitlines()
    kept = [line for line in lines if '"kind": "version"' not in line or '"version": 1' in line]
    file.write_text("\n".join(kept), encoding="utf-8")
    copy = open_space(folder="elsewhere")
    copy.import_(file)
    edited = next(slot for slot in copy.slots() if slot.version == 2)
    assert copy.slots(None) == lived.slots(None) == copy.slots(None, as_of=copy.version())
    copy.edit(edited.id, "My exam is on 5 March 2027.")
    copy.undo()
    assert copy.slot(edited.id).text == edited.text


def test_long_messages_and_odd_names_come_back(m, open_space, tmp_path):
    chat = m.session("Monday")
    chat.send(f"{DOG} " + "word " * 1500, **SHORT)
    m.add("I like tea.", speaker="Tom\x1b[31m")
    (tmp_path / ("n" * 240 + ".txt")).write_bytes(b"The train\x0c leaves\x01 at nine.\r\nIt is red.")
    m.ingest(tmp_path / ("n" * 240 + ".txt"))
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    m.export(first, complete=True)
    copy = open_space(folder="elsewhere")
    copy.import_(first)
    copy.export(second, complete=True)
    assert first.read_bytes() == second.read_bytes() and copy.slots(None) == m.slots(None) != []
    for call in (lambda: m.session("x" * 201), lambda: m.rename_session(chat.id, "x" * 201),
                 lambda: m.add(DOG, speaker="x" * 201)):  # fmt: skip
        with pytest.raises(InputError, match="at most 200"):
            call()


def test_endless_lines_are_refused(m, tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "LONGEST_LINE", 1000)
    (tmp_path / "x.jsonl").write_text(f"{HEADER}\n" + "x" * 5000)
    with pytest.raises(InputError, match="Line 2"):
        m.import_(tmp_path / "x.jsonl")


def test_a_line_that_is_no_utf_8_is_named(m, tmp_path):
    tea = GOOD | {"id": "good-slot-000002", "text": "I love tea.", "said": "I love tea."}
    file, last = tmp_path / "bad.jsonl", json.dumps(tea)
    file.write_bytes("\n".join([HEADER, json.dumps(GOOD), last]).encode().replace(b"Rex", b"R\xe9x"))
    with pytest.raises(InputError, match="Line 2"):
        m.import_(file)
    assert [slot.text for slot in m.import_(file, lambda number, why: None)] == ["I love tea."]


def test_a_newer_export_is_refused(m, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"mam": "memory", "version": 3}\n')
    with pytest.raises(InputError, match="newer"):
        m.import_(tmp_path / "x.jsonl")


def test_a_memory_is_neither_replaced_by_an_export_nor_opened_as_one(m):
    m.add(DOG)
    file = m.store.file
    for name in (file.name, "memory-bob.db", f"{file.name}-wal"):
        for call in (m.export, m.import_):
            with pytest.raises(InputError, match="choose another file"):
                call(file.with_name(name))
    assert m.export(file.with_name(f"{file.name}.jsonl")) == 1 == len(Store(file.parent, "ann").slots())


def test_an_export_on_a_full_disk_leaves_the_old_one(m, tmp_path, monkeypatch):
    file = tmp_path / "mine.jsonl"
    m.export(file)
    before = file.read_bytes()
    m.add(DOG)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exchange.os, "fsync", full)
    with pytest.raises(InputError, match="No space"):
        m.export(file)
    assert file.read_bytes() == before and [each.name for each in tmp_path.glob(".*")] == []


# -- conversations ----------------------------------------------------------------------------------------------------

CHAT = [
    {"role": "system", "content": "My dog is a liar."},
    {"role": "user", "content": DOG, "time": "2026-03-01T09:00:00+01:00"},
    {"role": "assistant", "content": "Nice name!", "time": 1772352060},
    {"role": "user", "content": [{"type": "text", "text": "My cat is called Tom."}, {"type": "image"}], "name": "Ann"},
]
LOCOMO = {
    "sample_id": "x",
    "conversation": {
        "speaker_a": "Caro", "speaker_b": "Mel",
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": [
            {"speaker": "Caro", "dia_id": "D1:1", "text": "My dog is called Rex."},
            {"speaker": "Mel", "dia_id": "D1:2", "text": "Wow!", "blip_caption": "a photo of my parrot"},
        ],
        "session_10_date_time": "9:00 am on 1 June, 2023",
        "session_10": [{"speaker": "Mel", "dia_id": "D10:1", "text": "My cat is called Tom."}],
    },
    "qa": [],
}  # fmt: skip


def test_a_chat_export_is_listened_to(open_space, tmp_path):
    seen = []
    m = open_space(progress=lambda *step: seen.append(step))
    shapes = {
        "list.json": json.dumps(CHAT),
        "lines.jsonl": "\n".join(map(json.dumps, CHAT)),
        "titled.json": json.dumps([{"title": "Pets", "messages": CHAT}]),
    }
    for number, (name, content) in enumerate(shapes.items()):
        (tmp_path / name).write_text(content, encoding="utf-8")
        user = open_space(f"user{number}", progress=lambda *step: seen.append(step))
        slots = user.import_(tmp_path / name)
        assert [(slot.text, slot.speaker) for slot in slots] == [(DOG, "user"), ("My cat is called Tom.", "Ann")], name
        assert slots[0].told == datetime(2026, 3, 1, 8, tzinfo=UTC)
        (session,) = user.sessions()
        assert session.turns == 3 and user.turns(session.id)[1].reply == "Nice name!"
        assert seen[-1] == ("listening", 3, 3)
    assert session.title == "Pets" and m.slots() == []


def test_locomo_conversations_keep_names_and_times(m, tmp_path):
    (tmp_path / "locomo.json").write_text(json.dumps([LOCOMO]), encoding="utf-8")
    slots = m.import_(tmp_path / "locomo.json")
    picture = "I am showing a photo of my parrot."
    assert [(s.text, s.speaker) for s in slots] == [(DOG, "Caro"), (picture, "Mel"), ("My cat is called Tom.", "Mel")]
    assert slots[0].told.astimezone().replace(tzinfo=None) == datetime(2023, 5, 8, 13, 56)
    assert sorted(session.title for session in m.sessions()) == ["session 1", "session 10"]


@pytest.mark.parametrize(
    "bad",
    [
        {"role": "user", "content": 5}, {"content": "x"}, {"role": "user", "content": "x", "time": "soon, I guess"},
        {"role": "user", "content": "x" * 100_001}, 7, {"role": "user", "content": "x", "time": 1e300},
        {"role": ["user"], "content": "x"}, {"role": "\x00\x07", "content": "x"}, {"role": "x" * 201, "content": "x"},
        {"role": "user", "content": "x", "time": "0001-01-01T00:00:00"},
        {"role": "user", "content": "x", "time": "9999-12-31T23:59:59-12:00"},
    ],
)  # fmt: skip
def test_a_bad_message_is_named(m, tmp_path, bad):
    file = tmp_path / "chat.json"
    file.write_text(json.dumps([CHAT[1], bad, CHAT[3]]))
    with pytest.raises(InputError, match="Message 2"):
        m.import_(file)
    assert m.slots(None) == [] == m.sessions()
    named = []
    assert len(m.import_(file, lambda *line: named.append(line))) == 2 and [number for number, _ in named] == [2]


def test_odd_but_harmless_messages_are_heard(m, tmp_path):
    """Nothing of them may stop an import in the middle."""
    odd = [
        {"role": "user", "content": "\x07\x00"}, {"role": "To\ud800m\x1b[31m", "content": DOG},
        {"role": "user", "name": "A\ud800", "content": "My cat is called Tom."},
    ]  # fmt: skip
    told = [{"title": title, "messages": odd} for title in (" ", "\x00", "Pets\ud800", "t" * 1000, 5)]
    (tmp_path / "chat.json").write_text(json.dumps(told))
    slots = m.import_(tmp_path / "chat.json")
    assert [(slot.text, slot.speaker) for slot in slots] == [(DOG, "To?m[31m"), ("My cat is called Tom.", "A?")]
    titles = [session.title for session in reversed(m.sessions())]
    assert titles[2:4] == ["Pets?", "t" * 200] and {titles[0], titles[1], titles[4]} == {DOG}


def test_a_locomo_session_without_a_readable_time_is_named(m, tmp_path):
    told = json.loads(json.dumps(LOCOMO))
    told["conversation"]["session_1_date_time"] = "soon, I guess"
    (tmp_path / "locomo.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match="Message 1 .*a time that cannot be read"):
        m.import_(tmp_path / "locomo.json")
    named = []
    slots = m.import_(tmp_path / "locomo.json", lambda *line: named.append(line))
    assert [slot.text for slot in slots] == ["My cat is called Tom."] and [number for number, _ in named] == [1, 2]


NEITHER = ["{}", '"text"', "[]", "null", '[{"a": 1}]', "[" * 100_000, '{"messages": 5}', "hello"]


@pytest.mark.parametrize("content", NEITHER, ids=range(len(NEITHER)))
def test_other_files_are_neither(m, tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match="neither|nested") as error:
        m.import_(tmp_path / "x.json")
    assert len(str(error.value).splitlines()) == 1 and m.sessions() == []


# -- documents ------------------------------------------------------------------------------------------------------


def a_pdf(*pages: str) -> bytes:
    """A PDF with a line of text for each line of each page, written by hand."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for page in pages:
        lines = " 0 -14 Td ".join(f"({line}) Tj" for line in page.split("\n"))
        stream = f"BT /F1 12 Tf 72 720 Td {lines} ET"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {len(objects)} 0 R"
            " /Resources << /Font << /F1 3 0 R >> >> >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    content, places = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(content))
        content += f"{number} 0 obj\n{text}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    head = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    tail = f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(content)}\n%%EOF"
    return content + (head + tail).encode()


def test_slots_of_a_document_know_their_page_or_line(open_space, tmp_path):
    seen = []
    m = open_space(progress=lambda *step: seen.append(step))
    (tmp_path / "notes.md").write_text("# Trip\n\nThe train leaves at nine. It is red.\n\n- Bring tickets.\n", "utf-8")
    slots = m.ingest(tmp_path / "notes.md")
    assert [(slot.said, slot.position) for slot in slots] == [
        ("Trip", "line 1"), ("The train leaves at nine.", "line 3"), ("It is red.", "line 3"),
        ("Bring tickets.", "line 5"),
    ]  # fmt: skip
    assert {(slot.document, slot.speaker) for slot in slots} == {("notes.md", "notes.md")}
    assert seen[-1] == ("ingesting", 4, 4)
    (tmp_path / "report.PDF").write_bytes(a_pdf("The train leaves at\nnine in the morning.", "Bring the tickets."))
    slots = m.ingest(tmp_path / "report.PDF")
    assert [(slot.said, slot.position) for slot in slots] == [
        ("The train leaves at nine in the morning.", "page 1"), ("Bring the tickets.", "page 2"),
    ]  # fmt: skip
    assert m.slots(document="report.PDF") == slots and m.versions(slots[0].id)[0].by == "ingest"


def test_no_part_of_a_document_is_left_out(m, tmp_path):
    """What has no full stop for pages is cut where a word ends; what has no words, anywhere."""
    (tmp_path / "log.txt").write_text("Short.\n" + "word " * 1000 + "end\n" + "x" * 4500 + "\n", encoding="utf-8")
    slots = m.ingest(tmp_path / "log.txt")
    assert [len(slot.text) <= 2000 for slot in slots] == [True] * 7 and {slot.text for slot in slots[4:]} <= {
        "x" * 2000,
        "x" * 500,
    }
    text = (tmp_path / "log.txt").read_text("utf-8")
    assert all(text[slice(*slot.span)] == slot.said == slot.text for slot in slots)
    assert "".join(slot.text for slot in slots).replace(" ", "") == "".join(text.split())
    assert [slot.position for slot in slots] == ["line 1", *["line 2"] * 3, *["line 3"] * 3]


def test_ingesting_a_document_again_only_adds_what_is_new(m, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("The train leaves at nine.\n")
    m.ingest(file)
    file.write_text("The train leaves at nine.\nThe bus is late.\n")
    assert [slot.said for slot in m.ingest(file)] == ["The bus is late."] and len(m.slots()) == 2


@pytest.mark.parametrize(
    "content", [b"", b"%PDF-1.4\n", b"\x00" * 100, a_pdf("Hello there.")[:200], b"%PDF-1.7\n" + b"[" * 50_000]
)
def test_broken_pdfs_are_explained(m, tmp_path, content):
    (tmp_path / "x.pdf").write_bytes(content)
    with pytest.raises(InputError, match="no PDF") as error:
        m.ingest(tmp_path / "x.pdf")
    assert len(str(error.value).splitlines()) == 1 and m.slots(None) == []


def test_a_locked_pdf_is_explained(m, tmp_path):
    from pypdf import PdfReader, PdfWriter

    (tmp_path / "plain.pdf").write_bytes(a_pdf("Hello there."))
    writer = PdfWriter(clone_from=PdfReader(tmp_path / "plain.pdf"))
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(tmp_path / "locked.pdf")
    with pytest.raises(InputError, match="password"):
        m.ingest(tmp_path / "locked.pdf")
    newer = (tmp_path / "locked.pdf").read_bytes().replace(b"/V 2", b"/V 5").replace(b"/R 3", b"/R 6")
    (tmp_path / "newer.pdf").write_bytes(newer)
    with pytest.raises(InputError, match="password|no PDF"):
        m.ingest(tmp_path / "newer.pdf")
