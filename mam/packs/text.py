"""Documents for packs: files, or the slots of a space, as named lists of sentences.

Knows files and slots; does not know what is made of them. Sentences are those that ingesting makes, as they stand in
the text: what a sentence leans on is found where it is needed (see `reflect`), and named as its source there.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from mam import documents
from mam.candidates import sentences
from mam.errors import InputError, MissingError
from mam.exchange import clean
from mam.packs.values import Document, Sentence
from mam.values import Slot

MOST_WORDS = 100_000  # of a pack: a long night on two cores
WORD = 10  # characters that count as a word, where blanks do not show them
ENGLISH = 0.2  # share of English function words below which a text is taken for another language
SAMPLE = 2_000  # words that are looked at for that
LIKELY = 120  # characters that it takes to tell
LONGEST = 600  # characters of a sentence


def read(paths: Sequence[str | os.PathLike]) -> list[Document]:
    """The documents in files (.txt, .md, .pdf), or in all such files of folders, each by the name of its file.

    Raises InputError for what cannot be read, is empty, is too much, or comes twice under a name.
    """
    found: list[Document] = []
    for path in _files(paths):
        room = MOST_WORDS - sum(size(sentence.text) for document in found for sentence in document.sentences)
        found.append(Document(documents.name_of(path), _sentences(path, room)))
    check(found)
    return found


def check(found: Sequence[Document]) -> None:
    """Raises InputError for documents that no pack can be made of."""
    if not found:
        raise InputError("There is no text to make a pack of; name files or folders with .txt, .md or .pdf.")
    names = [document.name for document in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"Two documents are called {min(twice)}; give them different names.")
    for document in found:
        if not document.words:
            raise InputError(f"There is no text in {document.name}; leave it out.")
    if (words := sum(size(s.text) for document in found for s in document.sentences)) > MOST_WORDS:
        raise InputError(f"A pack is made of at most {MOST_WORDS:,} words, these are {words:,}; make several packs.")


def size(text: str) -> int:
    """Words; of a text without blanks, as many as would be in so many characters."""
    return max(len(text.split()), len(text) // WORD)


def check_english(found: Sequence[Document]) -> None:
    """Raises InputError for a document in another language: for a generator that only writes English."""
    for document in found:
        words = [word.strip(".,;:!?\"'").lower() for s in document.sentences for word in s.text.split()][:SAMPLE]
        if len("".join(words)) >= LIKELY and sum(w in ENGLISH_STOP_WORDS for w in words) < ENGLISH * len(words):
            raise InputError(
                f"{document.name} does not look like English, the only language of the generator that comes with mam;"
                " leave it out, or name a model that knows its language with --generator."
            )


def reworded(document: Document, number: int, words: str) -> Document:
    """A document with these words as the sentence of this number.

    Raises MissingError when it has no such sentence, InputError for words that are none, and where that is a memory.
    """
    words = " ".join(clean(words, " ").split())
    found = next((sentence for sentence in document.sentences if sentence.number == number), None)
    if found is None:
        raise MissingError(f"{document.name} has no sentence {number} in this pack.")
    if found.slot is not None:
        raise InputError("This sentence is a memory; edit that, then build the pack: it takes up what it is now.")
    if not words:
        raise InputError("There is nothing in this sentence; write something, or delete it.")
    if len(words) > LONGEST:
        raise InputError(f"A sentence of a pack has at most {LONGEST} characters, this one {len(words):,}.")
    new = replace(found, text=words)
    return replace(document, sentences=tuple(new if each is found else each for each in document.sentences))


def of_slots(slots: Iterable[Slot]) -> list[Document]:
    """Slots as documents: those of a document, and those of a conversation, under a name each.

    Raises InputError when there are none.
    """

    def home(slot: Slot) -> str:
        return slot.document or (f"conversation {slot.session[:8]}" if slot.session else "memories")

    found = []
    for name, own in groupby(sorted(slots, key=home), key=home):  # a stable sort: in the order they were told
        told = (Sentence(i, slot.text, slot.position or "", slot.id) for i, slot in enumerate(own, 1))
        found.append(Document(name, tuple(told)))
    check(found)
    return found


def _files(paths: Sequence[str | os.PathLike]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        inside = (p for p in path.rglob("*") if p.suffix.lower() in (*documents.PLAIN, ".pdf") and p.is_file())
        found += sorted(inside) if path.is_dir() else [path]
    return found


def _sentences(path: Path, room: int) -> tuple[Sentence, ...]:
    """Raises InputError for more words than there is room for, before any of it is looked at closely."""
    found: list[Sentence] = []
    for text, place in documents.texts(path):
        room -= size(text)
        if room < 0:
            raise InputError(f"A pack is made of at most {MOST_WORDS:,} words, and {path} goes beyond; split it.")
        for said, start in sentences(text):
            for part in textwrap.wrap(said, LONGEST):  # a table, or a text without full stops, comes in parts
                found.append(Sentence(len(found) + 1, part, place(start)))
    return tuple(found)
