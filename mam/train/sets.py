"""The public data sets of training, read, checked and split: passages with questions, dialogues with labels.

Knows their files and which sentence answers a question; does not know scenes (see `data`). Training validates on a
fixed part of its own files, one passage in twenty. What benchmarks report on (the Wikipedia part of SQuADShifts, the
validation part of FairytaleQA) is not even opened here: what has chosen the best step cannot say how good that is.
Whatever is missing or damaged is an InputError that names the file, the line and the field.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mam.errors import InputError
from mam.index import words
from mam.jsonl import field, lines, missing, texts, unexpected
from mam.values import Candidate

HELD_OUT = 20  # one passage of so many is validated on, not learned from
RUN = 12  # words in a row by which a text is known that stands in two passages
LONGEST = 80  # characters of an answer
DIALOGUES = "dialogue_synthetic_persona_chat"
_END = re.compile(r"(?<=[.!?])([\"')\]]*)\s+(?=[\"'(\[]*[A-Z0-9])")
_SELF = {"i", "my", "we", "our", "me", "mine"}


@dataclass(frozen=True)
class Passage:
    """Sentences of a passage, and questions with the sentence that answers each.

    story: the one that it is a section of, empty for none. Sections of one story stand together and in order; those
    that nobody asked about by themselves are not known, and of some no question is left.
    """

    sentences: tuple[str, ...]
    questions: tuple[tuple[str, int, str], ...]  # question, sentence, answer
    story: str = ""

    @property
    def whole(self) -> str:
        """What is learned from or validated on, never both."""
        return self.story or " ".join(self.sentences)


def passages(folder: Path, split: str) -> list[Passage]:
    """The passages of all sets in `folder`, "train" or "val". Raises InputError when a file is missing or damaged.

    Which are held out says a hash: of the name of a story, of the text of any other passage. What has twelve words in
    a row in common with them (posts from one template, another translation of a tale) is in neither.
    """
    found = []
    for name, read in SETS.items():
        path = folder / f"{name}.jsonl.gz"
        found += (some := read(path))
        if not some:
            raise InputError(f"{path} holds no questions; fetch it again.")
    held_out = [passage for passage in found if _held_out(passage)]
    if split == "val":
        return held_out
    known = {run for passage in held_out for run in _runs(passage)}
    shared = {passage.whole for passage in found if not known.isdisjoint(_runs(passage))}
    return [passage for passage in found if not _held_out(passage) and passage.whole not in shared]


def says(text: str, answer: str) -> bool:
    """Whether the answer stands in the text word for word, in whatever case."""
    return bool(answer) and re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE) is not None


def sentences_of(text: str) -> list[str]:
    """Sentences of edited prose, each in one line."""
    return [_joined(text[start:end]) for start, end in _places(text)]


def fingerprint(folder: Path | None) -> str:
    """Of the files in `folder` that are learned from and validated on; of none where lives are all there is.

    Raises InputError when one is missing.
    """
    if folder is None:
        return "lives"
    digest = hashlib.sha256()
    for name in (*SETS, DIALOGUES):
        file = folder / f"{name}.jsonl.gz"
        try:
            digest.update(name.encode() + hashlib.sha256(file.read_bytes()).digest())
        except OSError as error:
            raise missing(file) from error
    return digest.hexdigest()[:16]


# ---- what is held out ------------------------------------------------------------------------------------------------


def _held_out(passage: Passage) -> bool:
    mark = hashlib.sha256(" ".join(_spelled(passage.whole)).encode()).digest()
    return int.from_bytes(mark[:4], "big") % HELD_OUT == 0


def _runs(passage: Passage) -> Iterator[tuple[str, ...]]:
    """All runs of so many words; a shorter text has none."""
    said = _spelled(" ".join(passage.sentences))
    return zip(*(said[i:] for i in range(RUN)), strict=False)


def _spelled(text: str) -> list[str]:
    """The words of a text, however they are written: case, punctuation and kinds of letters apart."""
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


# ---- questions about passages ----------------------------------------------------------------------------------------


def _squadshifts(path: Path) -> list[Passage]:
    """The sentence that answers is the one at the place that most annotators chose.

    A question whose answer spans two sentences is left out: no slot holds it.
    """
    asked: dict[str, list[tuple[str, int, str]]] = {}
    for where, row in lines(path):
        text, question = field(row, "context", str, where), field(row, "question", str, where)
        answers = [
            (field(a, "start", int, where), field(a, "text", str, where)) for a in field(row, "answers", list, where)
        ]
        if any(start < 0 or not text.startswith(answer, start) for start, answer in answers):
            raise InputError(f'{where}, field "answers" does not say where the passage has them; fetch it again.')
        questions = asked.setdefault(text, [])
        if answers:
            (start, _), *_ = Counter(start for start, _ in answers).most_common()
            (answer, _), *_ = Counter(answer.strip() for at, answer in answers if at == start).most_common()
            questions.append((question, start, answer))
    made = []
    for text, questions in asked.items():
        places = _places(text)
        found = [
            (question, i, answer)
            for question, at, answer in questions
            for i, (start, end) in enumerate(places)
            if start <= at and at + len(answer) <= end
        ]
        made.append(_passage(sentences_of(text), found))
    return [passage for passage in made if passage.questions]


def _qamr(path: Path) -> list[Passage]:
    """Every passage is one sentence."""
    asked: dict[str, list[tuple[str, int, str]]] = {}
    for where, row in lines(path):
        text, answer = _joined(field(row, "sentence", str, where)), _joined(field(row, "answer", str, where))
        question = field(row, "question", str, where)
        if says(text, answer):
            asked.setdefault(text, []).append((question, 0, answer))
    return [passage for text, found in asked.items() if (passage := _passage([text], found)).questions]


def _fairytale(path: Path) -> list[Passage]:
    """Every passage is a section, known from the questions about it alone.

    They do not say where the answer stands. Of the sentences that hold it, the one is taken that shares most words
    with the question, rare ones counting more.
    """
    told: dict[str, dict[int, list[str]]] = {}
    asked = []
    for where, row in lines(path):
        story, text = field(row, "story", str, where), field(row, "context", str, where)
        question, answers = field(row, "question", str, where), texts(row, "answers", where)
        if not all(number.isdecimal() for number in texts(row, "sections", where)):
            raise unexpected("sections", where)
        numbers = [int(number) for number in row["sections"]]
        sections = told.setdefault(story, {})
        if len(numbers) == 1 and numbers[0] not in sections:
            sections[numbers[0]] = sentences_of(text)
        asked += [(story, numbers, question, _joined(answer)) for answer in answers[:1]]
    every = [words(s) for sections in told.values() for sentences in sections.values() for s in sentences]
    count = Counter(word for found in every for word in found)
    found: dict[tuple[str, int], list[tuple[str, int, str]]] = {}
    for story, numbers, question, answer in asked:
        wanted, sections = words(question), told[story]
        holding = [
            (math.fsum(math.log(len(every) / count[word]) for word in wanted & words(sentence)), number, i)
            for number in numbers
            for i, sentence in enumerate(sections.get(number, ()))
            if says(sentence, answer)
        ]
        if holding:
            _, number, i = max(holding, key=lambda place: place[0])  # of several the first
            found.setdefault((story, number), []).append((question, i, answer))
    return [
        _passage(sections[number], found.get((story, number), ()), story)
        for story, sections in told.items()
        for number in sorted(sections)
    ]


def _passage(sentences: Iterable[str], found: Iterable[tuple[str, int, str]], story: str = "") -> Passage:
    """Without what was asked twice, and without long answers."""
    kept = dict.fromkeys((_joined(question), i, _joined(answer)) for question, i, answer in found)
    return Passage(tuple(sentences), tuple(asked for asked in kept if len(asked[2]) <= LONGEST), story)


def _places(text: str) -> list[tuple[int, int]]:
    """Where each sentence of a text begins and ends, in characters; only blanks stand between them."""
    ends = list(_END.finditer(text))
    starts = [0, *(end.end() for end in ends)]
    places = zip(starts, [*(end.end(1) for end in ends), len(text)], strict=True)
    return [(start, end) for start, end in places if not text[start:end].isspace() and start < end]


def _joined(text: str) -> str:
    """In one line: where print breaks lines says nothing."""
    return " ".join(text.split())


SETS: dict[str, Callable[[Path], list[Passage]]] = {
    "qa_squadshifts_reddit": _squadshifts,
    "qa_squadshifts_amazon": _squadshifts,
    "qa_qamr_dev": _qamr,
    "qa_fairytale_train": _fairytale,
}


# ---- real dialogues, for the gate ------------------------------------------------------------------------------------


def talk(folder: Path, split: str) -> list[tuple[Candidate, bool]]:
    """Sentences of Synthetic-Persona-Chat with weak labels, its last tenth for validation.

    Worth keeping: the lines of a persona, and what repeats most of such a line in a dialogue. Not worth keeping:
    questions, and what does not speak of oneself at all. Everything in between is left out.
    Raises InputError when the file is missing or damaged.
    """
    dialogues = list(lines(folder / f"{DIALOGUES}.jsonl.gz"))
    cut = len(dialogues) * 9 // 10
    out = []
    for where, row in dialogues[:cut] if split == "train" else dialogues[cut:]:
        before = ""
        persona = texts(row, "persona_1", where) + texts(row, "persona_2", where)
        out += [(Candidate(line, line, context=""), True) for line in persona]
        for said in texts(row, "dialogue", where):
            for sentence in sentences_of(said.partition(": ")[2]):
                label = _weak_label(sentence, persona)
                if label is not None:
                    out.append((Candidate(sentence, sentence, context=before), label))
                before = sentence
    return out


def _weak_label(sentence: str, persona: list[str]) -> bool | None:
    if sentence.endswith("?") or not _SELF & set(re.findall(r"[a-z]+", sentence.lower())):
        return False
    said = words(sentence)
    told = [words(line) for line in persona]
    return True if any(len(said & line) >= max(2, 0.6 * len(line)) for line in told) else None
