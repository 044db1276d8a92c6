"""Packs: from files and slots to sentences, and what no pack can be made of."""

from __future__ import annotations

import pytest
from packing import document

from mam.errors import InputError
from mam.packs import text
from mam.packs.build import plan
from mam.packs.store import PackStore, Settings

GERMAN = (
    "Es war einmal ein König, der hatte eine wunderschöne Tochter. Sie wohnte in einem hohen Turm, und niemand durfte"
    " sie besuchen. Eines Tages kam ein junger Prinz geritten und hörte ihre Stimme. Da beschloss er, sie zu befreien."
)


def test_files_become_sentences_with_their_place(tmp_path):
    (tmp_path / "a.txt").write_text("The mill stands on the Lune. It was built in 1840.\n\nEdgar Vane built it.\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.md").write_text("The fox went to the well.")
    first, second = text.read([tmp_path])
    assert [s.text for s in first.sentences][:2] == ["The mill stands on the Lune.", "It was built in 1840."]
    assert [s.position for s in first.sentences] == ["line 1", "line 1", "line 3"]
    assert [s.number for s in first.sentences] == [1, 2, 3]
    assert (first.name, second.name, second.words) == ("a.txt", "b.md", 6)


def test_an_empty_document_is_refused(tmp_path):
    (tmp_path / "empty.txt").write_text(" \n\n ***\n")
    with pytest.raises(InputError, match="no text in empty.txt"):
        text.read([tmp_path / "empty.txt"])
    with pytest.raises(InputError, match="no text to make a pack of"):
        text.read([])
    with pytest.raises(InputError, match="is no text"):
        (tmp_path / "picture.png").write_bytes(b"\x89PNG")
        text.read([tmp_path / "picture.png"])


def test_two_documents_of_one_name_are_refused(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.txt").write_text("The fox went to the well.")
    with pytest.raises(InputError, match="called same.txt"):
        text.read([tmp_path])


def test_a_very_large_text_is_refused_before_it_is_looked_at_closely(tmp_path, monkeypatch):
    large = tmp_path / "large.txt"
    large.write_text("The fox went to the well and came back home. " * 1_100_000)  # 50 MB
    monkeypatch.setattr(text, "sentences", lambda _: pytest.fail("split all of it"))
    with pytest.raises(InputError, match="at most 100,000 words"):
        text.read([large])
    with large.open("a") as file:
        file.write("x" * 1_000_000)
    with pytest.raises(InputError, match="larger than 50 MB"):
        text.read([large])


def test_a_very_large_text_without_blanks_is_refused_too(tmp_path):
    for name, text_ in (("one", "x" * 2_000_000), ("many", "昔々、ある所に王様がいました。" * 100_000)):
        (tmp_path / f"{name}.txt").write_text(text_)
        with pytest.raises(InputError, match="at most 100,000 words"):
            text.read([tmp_path / f"{name}.txt"])


def test_folders_are_no_documents(tmp_path):
    (tmp_path / "notes.md").mkdir()
    (tmp_path / "notes.md" / "a.txt").write_text("The fox went to the well.")
    assert [d.name for d in text.read([tmp_path])] == ["a.txt"]


def test_a_sentence_without_an_end_comes_in_parts(tmp_path):
    (tmp_path / "table.txt").write_text("cell " * 1000)
    (found,) = text.read([tmp_path / "table.txt"])
    assert max(len(s.text) for s in found.sentences) <= text.LONGEST and found.words == 1000


def test_another_language_is_refused_by_the_generator_that_only_writes_english(tmp_path):
    store = PackStore(tmp_path, "story")
    for name in (GERMAN, "昔々、ある所に王様がいました。" * 20):
        store.set_settings(Settings("base", "fingerprint", "trained"))
        with pytest.raises(InputError, match="does not look like English"):
            plan(store, [document("story.txt", name)])
        store.set_settings(Settings("base", "fingerprint", "openai:some@http://localhost:1/v1"))
        plan(store, [document("story.txt", name)])
        assert [d.name for d in store.documents("000")] == ["story.txt"]
        store.remove()


def test_slots_become_documents_by_where_they_come_from(m):
    m.add("My dog is called Rex.")
    chat = m.session("Monday")
    chat.observe("I live in Oslo.")
    found = {d.name: [s.text for s in d.sentences] for d in text.of_slots(m.slots())}
    assert found == {"memories": ["My dog is called Rex."], f"conversation {chat.id[:8]}": ["I live in Oslo."]}
    with pytest.raises(InputError, match="no text"):
        text.of_slots([])
