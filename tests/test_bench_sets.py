"""The public data sets are read as published, and what is wrong with a file is said with the field."""

from __future__ import annotations

import copy
import gzip
import json
import re
import time
from functools import partial

import pytest
from published import QUESTIONS, TALK, fill, packed

from mam.bench import locomo, longtext, sets
from mam.errors import InputError


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path)
    return tmp_path


# ---- files -----------------------------------------------------------------------------------------------------------


def test_locomo_as_published(folder):
    (talk,) = sets.locomo(folder)
    assert [turn.id for turn in talk.turns] == ["D1:1", "D1:2", "D2:1", "D2:2"]
    assert talk.turns[1].text == "Nice! I am showing a photo of my violin."
    assert f"{talk.turns[2].at:%Y-%m-%d %H:%M}" == "2023-06-01 09:05"
    assert [question.evidence for question in talk.questions] == [("D1:1",), ("D1:1", "D2:1"), ("D2:2",), ("D1:1",)]
    assert talk.questions[2].answer == "2023" and talk.questions[3].answer == ""


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Tokyo"])
def test_locomo_is_told_at_the_same_hour_everywhere(folder, world, monkeypatch, zone):
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        (talk,) = sets.locomo(folder)
        with world.space() as space:
            locomo.tell(space, talk)
            times = {
                f"{turn.at.astimezone():%d %B %H:%M}" for chat in space.sessions() for turn in space.turns(chat.id)
            }
    time.tzset()
    assert times == {"08 May 13:56", "01 June 09:05"}


def test_documents_as_published(folder):
    (wiki,), (story,) = sets.squad(folder, "wiki"), sets.stories(folder, "val")
    assert wiki.text[wiki.questions[0].at :].startswith("Edgar Vane")
    assert story.text == "A fox went to the well.\n\nIt was afraid of the hens.\n\n"
    assert story.questions[0].within == (0, len(story.text))


@pytest.mark.parametrize(
    "break_it, named",
    [
        (lambda s: s[0]["conversation"].pop("session_2_date_time"), '"session_2_date_time"'),
        (lambda s: s[0]["conversation"].update(session_1_date_time="a while ago"), "no time"),
        (lambda s: s[0]["conversation"]["session_1"][0].pop("dia_id"), 'turn 1 of session_1, has no field "dia_id"'),
        (lambda s: s[0]["conversation"].update(session_1="talk"), '"session_1"'),
        (lambda s: s[0].pop("qa"), 'conversation 1, has no field "qa"'),
        (lambda s: s[0]["qa"][0].pop("answer"), 'question 1, has no field "answer"'),
        (lambda s: s[0]["qa"][0].update(category=7), '"category" is 7'),
        (lambda s: s[0].update(conversation={}), '"session_1"'),
        (lambda s: s.clear(), "no conversations"),
    ],
)
def test_a_bad_conversation_is_named(tmp_path, break_it, named):
    samples = json.loads(json.dumps([{"sample_id": "conv-1", "conversation": TALK, "qa": QUESTIONS}]))
    break_it(samples)
    packed(tmp_path / sets.LOCOMO, samples)
    with pytest.raises(InputError, match=re.escape(named)) as caught:
        sets.locomo(tmp_path)
    assert sets.LOCOMO in str(caught.value) and "\n" not in str(caught.value)


def test_missing_and_damaged_files_are_named(folder, tmp_path):
    with pytest.raises(InputError, match="--data"):
        sets.locomo(None)
    with pytest.raises(InputError, match="nowhere.*is missing"):
        sets.locomo(tmp_path / "nowhere")
    whole = (folder / sets.LOCOMO).read_bytes()
    for damaged in (b"half a file", whole[:-20], whole[:40] + b"\xff\xff" + whole[42:]):
        (folder / sets.LOCOMO).write_bytes(damaged)
        with pytest.raises(InputError, match=f"{sets.LOCOMO} is damaged"):
            sets.locomo(folder)
    packed(folder / "qa_squadshifts_wiki.jsonl.gz", [{"context": "a", "question": "b"}], lines=True)
    with pytest.raises(InputError, match='wiki.jsonl.gz, line 1, has no field "answers"'):
        sets.squad(folder, "wiki")
    row = {"context": "A mill.", "question": "What?", "answers": [{"text": "mill", "start": 1}]}
    packed(folder / "qa_squadshifts_wiki.jsonl.gz", [row], lines=True)
    with pytest.raises(InputError, match='line 1, field "answers"'):
        sets.squad(folder, "wiki")
    row = {"story": "fox", "sections": [["1"]], "question": "What?", "answers": ["hens"], "kind": "x"}
    packed(folder / "qa_fairytale_val.jsonl.gz", [row], lines=True)
    with pytest.raises(InputError, match='line 1, field "sections"'):
        sets.stories(folder, "val")


# ---- whatever may be wrong with a field ------------------------------------------------------------------------------

OPTIONAL = {"sample_id", "blip_caption", "evidence", "adversarial_answer", "session_3_date_time"}
FREE = {"adversarial_answer", "session_3_date_time"}  # nobody reads these
ELSEWHERE = {  # fields that no longer fit to one that was changed, or that are missing inside of it
    "conversation": ["session_1"], "session_1": ["dia_id"], "session_2": ["dia_id"], "qa": ["category"],
    "context": ["answers"], "text": ["answers"], "start": ["answers"], "answers": ["text"],
    "section": ["sections"], "sections": ["text"],
}  # fmt: skip
NOTHING = {"blip_caption": (None, ""), "evidence": (None, [])}  # as good as missing
WRONG = (None, "", [], 7, 1.5, True, "text?", " ", [None], [{}], {}, {"a": 1})


def one_row(folder, name):
    """The only row of a gzipped file, and how to write it anew."""
    with gzip.open(folder / name, "rt") as file:
        row = json.loads(file.read())
    if isinstance(row, list):
        return row[0], lambda changed: packed(folder / name, [changed])
    return row, lambda changed: packed(folder / name, [changed], lines=True)


def fields(row, path=()):
    """Where every field of a row is, those inside of others and of lists too."""
    for key, value in row.items() if isinstance(row, dict) else enumerate(row) if isinstance(row, list) else ():
        if isinstance(key, str):
            yield (*path, key)
        yield from fields(value, (*path, key))


def changes(row):
    """(the field, what it was, what it is now or "gone", the row with that)."""
    for *path, key in fields(row):
        for new in ("gone", *WRONG):
            changed = copy.deepcopy(row)
            of = changed
            for step in path:
                of = of[step]
            old = of.pop(key)
            if new != "gone":
                of[key] = new
            yield key, old, new, changed


def fine(key, old, new):
    """Whether a change leaves something that can be read."""
    if key in FREE or (key in OPTIONAL and (new == "gone" or new in NOTHING.get(key, ()))):
        return True
    if key == "answer" and isinstance(new, int | float | str) and not isinstance(new, bool):  # a year is a number
        return not isinstance(new, str) or bool(new.strip())
    if isinstance(old, str) and isinstance(new, str):  # another text; a time, a story and a section must be known
        return bool(new.strip()) and not key.endswith("date_time") and key not in ("story", "section")
    if key in ("session_1", "session_2"):  # as published: a time without a session
        return new in ("gone", [])
    return key == "qa" and new == []


@pytest.mark.parametrize(
    "name, load",
    [
        (sets.LOCOMO, sets.locomo),
        ("qa_squadshifts_wiki.jsonl.gz", partial(sets.squad, part="wiki")),
        ("stories_fairytale_val.jsonl.gz", partial(sets.stories, part="val")),
        ("qa_fairytale_val.jsonl.gz", partial(sets.stories, part="val")),
    ],
)
def test_every_field_that_is_wrong_is_named(folder, name, load):
    row, write = one_row(folder, name)
    tried = 0
    for key, old, new, changed in changes(row):
        write(changed)
        tried += 1
        try:
            load(folder)
        except InputError as error:
            assert name in str(error) and "\n" not in str(error)
            named = {f'"{key}"', *(f'"{other}"' for other in ELSEWHERE.get(key, ()) if new not in ("gone", None))}
            assert any(field in str(error) for field in named), (key, new, str(error))
        else:
            assert fine(key, old, new), (key, new)
    assert tried > 4 * len(WRONG)


@pytest.mark.parametrize(
    "read, row",
    [
        (longtext.of_longbench, {"context": "A mill.", "input": "What?", "answers": ["mill"]}),
        (longtext.of_scrolls, {"id": "1", "input": "What?\n\nA mill.", "output": "mill"}),
    ],
)
def test_every_field_of_a_long_text_that_is_wrong_is_named(read, row):
    for key, old, new, changed in changes(row):
        try:
            read(iter([("NAME.jsonl, line 1", changed)]))
        except InputError as error:
            assert str(error).startswith("NAME.jsonl, line 1, ") and f'"{key}"' in str(error)
        else:
            assert isinstance(new, str) and isinstance(old, str) and new.strip(), (key, new)


@pytest.mark.parametrize("row", ["7", "[]", "null", '"text"', "{", "[" * 100_000])
def test_a_line_that_is_no_row_is_named(folder, row):
    for name, load in (("qa_squadshifts_wiki", sets.squad), ("qa_fairytale_val", sets.stories)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
            file.write(row)
        with pytest.raises(InputError, match=f"{name}.jsonl.gz, line 1,"):
            load(folder, name.rpartition("_")[2])


@pytest.mark.parametrize("name", ["qa_squadshifts_wiki", "qa_fairytale_val", "stories_fairytale_val"])
def test_a_file_that_is_cut_off_or_empty_is_named(folder, name):
    load = sets.squad if "squad" in name else sets.stories
    path = folder / f"{name}.jsonl.gz"
    whole = path.read_bytes()
    for size in range(1, len(whole) - 1, 7):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=f"{name}.jsonl.gz"):
            load(folder, name.rpartition("_")[2])
    for nothing in (b"", gzip.compress(b"")):
        path.write_bytes(nothing)
        with pytest.raises(InputError, match=f"{name}.jsonl.gz holds nothing"):
            load(folder, name.rpartition("_")[2])
