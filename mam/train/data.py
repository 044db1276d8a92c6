"""What the parts learn from: generated lives, and the public question–answer sets when their folder is given.

Everything is a function of (seed, split), so that a resumed run sees what the interrupted one would have seen.
Lives of "train" share no kind of fact, value or lead-in with those of "val" and "test"; see `mam.lives.kinds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import groupby
from random import Random

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from mam.index import SlotIndex, words
from mam.lives import (
    Life,
    Question,
    commands,
    general_prompts,
    life,
    personal_questions,
)
from mam.lives.days import undated, written
from mam.lives.plan import NAME
from mam.render import asks_when
from mam.train.sets import Passage, says
from mam.values import ASSISTANT, USER, Candidate, Slot

UNDATED = 0.4  # share of what happened on a day that is told without the day
LED = 0.15  # share of training questions with something else said first
RECALL = "recall"  # the kind of sentence that asks for what was told: it does ask something of the memory
REVOICED, OTHERS = 0.15, 0.10  # shares of a user's facts put into the assistant's mouth, and into somebody else's
NOW = datetime(2027, 3, 1, tzinfo=UTC)
HELD = 5  # passages of a scene
DOCUMENT = "document"  # who tells what stands in one
SECTIONS = (2, 3, 4)  # of them consecutive sections of one story
SENTENCES, QUESTIONS = 30, 4  # of a passage at most
ALIKE = 5  # passages that count as much alike one


@dataclass(frozen=True)
class Asked:
    """A question to a space: the rows of its slots that answer it (none: nothing does), and what to say."""

    text: str
    rows: tuple[int, ...]
    answer: str
    values: tuple[str, ...]
    type: str
    who: int | None = None  # row of the slot that gives the name of whom the question is about


@dataclass(frozen=True)
class Scene:
    """A memory and what happens around it: the unit that all parts train on."""

    slots: tuple[Slot, ...]
    asked: tuple[Asked, ...]
    idle: tuple[str, ...] = ()  # messages that ask nothing of a memory
    candidates: tuple[tuple[Candidate, bool], ...] = ()  # with the label: worth keeping
    now: datetime = NOW
    personal: bool = False  # lives, not passages: what is asked here only those who lived them can have told


def slot(row: int, text: str, told: datetime = NOW, speaker: str = USER) -> Slot:
    document = speaker if speaker == DOCUMENT else None
    return Slot(id=str(row), text=text, said=text, speaker=speaker, told=told, document=document)


def scene(seed: int, split: str = "train") -> Scene:
    """One life as a scene; sizes vary from a dozen slots to several dozen."""
    random = Random(f"scene {split} {seed}")
    one = life(
        seed,
        split,
        sessions=random.choice((2, 3, 3, 4)),
        facts=random.choice((10, 16, 24, 24, 36, 50)),
    )
    replaced = {f.replaces for f in one.facts if f.replaces is not None}
    rows = {i: row for row, i in enumerate(i for i in range(len(one.facts)) if i not in replaced)}
    dated = {q.evidence[0] for q in one.questions if q.type == "date" and asks_when(q.text)}
    bare = {i: text for i in rows if i in dated and random.random() < UNDATED
            if (text := undated(one.facts[i].text, one.facts[i].value))}  # fmt: skip
    slots = [slot(row, bare.get(i, one.facts[i].text), one.facts[i].told) for i, row in rows.items()]
    candidates = _candidates(one)
    # A gate lets some chatter through; the reader has to live with it.
    junk = [c for c, keep in candidates if not keep and c.speaker == USER and not c.said.endswith("?")]
    for c in random.sample(junk, min(len(junk), random.choice((0, 0, 1, 3)))):
        slots.append(slot(len(slots), c.text, one.facts[0].told))
    names = {one.facts[i].subject: row for i, row in rows.items() if one.facts[i].kind == NAME}
    # Other splits have lead-ins of their own; two dozen in training are too few to teach that they do not matter.
    led = LED if split == "train" and junk else 0.0
    asked = [
        Asked(
            f"{random.choice(junk).said} {q.text}" if random.random() < led else q.text,
            tuple(rows[i] for i in q.evidence),
            *_reply(q, {i: written(one.facts[i].told.date()) for i in bare}),
            q.type,
            names.get(q.subject) if q.kind != NAME else None,
        )
        for q in one.questions
        if all(i in rows for i in q.evidence)
    ]
    idle = random.sample(general_prompts(split), min(6, len(general_prompts(split))))
    idle += random.sample(commands(split), min(2, len(commands(split))))
    idle += random.sample(personal_questions(split), min(2, len(personal_questions(split))))
    said = [x.text for session in one.sessions for u in session.utterances if u.speaker == USER for x in u.sentences
            if x.kind != RECALL]  # fmt: skip
    idle += random.sample(said, min(6, len(said)))
    now = max(f.told for f in one.facts) + timedelta(days=random.uniform(0.1, 60))
    return Scene(tuple(slots), tuple(asked), tuple(idle), tuple(candidates), now, personal=True)


def _reply(question: Question, told: dict[int, str]) -> tuple[str, tuple[str, ...]]:
    """The answer and its values; of what happened on a day that nobody told, the day that it was told on."""
    day = next((told[i] for i in question.evidence if i in told), None)
    return (question.answer, question.values) if day is None else (f"You told me that on {day}.", (day,))


def _candidates(one: Life) -> list[tuple[Candidate, bool]]:
    """Every labelled sentence as the gate meets it: with the words before it as context."""
    out = []
    for session in one.sessions:
        before = ""
        for utterance in session.utterances:
            for s in utterance.sentences:
                text = one.facts[s.fact].text if s.fact is not None and s.text in one.facts[s.fact].text else s.text
                out.append(
                    (
                        Candidate(text, s.text, speaker=utterance.speaker, context=before),
                        s.keep,
                    )
                )
                before = s.text
    return out


def revoiced(random: Random, candidate: Candidate, keep: bool) -> tuple[Candidate, bool]:
    """Now and then, a fact of the user's as somebody else says it.

    From the assistant it is an invention and not worth keeping; from another person it is a fact all the same. Lives
    have no such pairs, and without them a gate has no need to look at who speaks.
    """
    if not keep or candidate.speaker != USER or (roll := random.random()) >= REVOICED + OTHERS:
        return candidate, keep
    if roll < REVOICED:
        return replace(candidate, speaker=ASSISTANT), False
    return replace(candidate, speaker=random.choice(("Ana", "Ben", "Mum"))), True


# ---- passages --------------------------------------------------------------------------------------------------------


class Pool:
    """Passages that scenes are made of: stories by section, and others, some of which are much alike."""

    def __init__(self, passages: Sequence[Passage] = ()):
        self.passages = list(passages)
        self.stories = [list(found) for story, found in groupby(self.passages, key=lambda p: p.story) if story]
        self.others = [p for p in self.passages if not p.story]

    def __bool__(self) -> bool:
        """Whether there is anything to make a scene of."""
        return bool(self.others)

    def alike(self, passage: Passage) -> list[Passage]:
        """Those with most words in common with this one, which is none of a story; rare words count more.

        None to or from a single sentence: what is asked about it, many a text would answer ("Who said something?").
        """
        if len(passage.sentences) == 1:
            return []
        several, vectors = self._several
        row = several.index(passage)
        near = (vectors @ vectors[row].T).toarray().ravel()
        near[row] = -1
        return [several[i] for i in np.argsort(-near, kind="stable")[:ALIKE] if near[i] > 0]

    @cached_property
    def _several(self) -> tuple[list[Passage], csr_matrix]:
        """Passages of several sentences, of no story, and their words (passages, words), tf-idf, rows of length 1."""
        several = [p for p in self.others if len(p.sentences) > 1]
        weigh = TfidfVectorizer(analyzer=lambda p: sorted(words(" ".join(p.sentences))))
        return several, weigh.fit_transform(several)


def passage_scene(seed: int, pool: Pool) -> Scene:
    """Sections of a story and a few other passages as one memory, told by nobody in particular.

    Beside the questions about them are some that nothing answers: two about other sections of the story, one about a
    passage much like one that is held, and one about any. The answer to none of these is said in the memory.
    """
    random = Random(f"passages {seed}")
    story = random.choice(pool.stories) if pool.stories else []
    count = min(random.choice(SECTIONS), len(story))
    begin = random.randint(0, len(story) - count)
    others = random.sample(pool.others, min(HELD - count, len(pool.others)))
    held = story[begin : begin + count] + others
    slots, asked = [], []
    for passage in held:
        first, said = len(slots), passage.sentences[:SENTENCES]
        slots += [slot(first + i, s, NOW - timedelta(days=1), DOCUMENT) for i, s in enumerate(said)]
        answered = [found for found in passage.questions if found[1] < SENTENCES]
        for question, i, answer in random.sample(answered, min(QUESTIONS, len(answered))):
            asked.append(Asked(question, (first + i,), answer, (answer,), "passage"))
    told, known = [words(x.text) for x in slots], {question for p in held for question, _, _ in p.questions}
    sections = story[:begin] + story[begin + count :]
    near = [p for passage in others for p in pool.alike(passage)]
    anything = random.sample(pool.passages, min(HELD, len(pool.passages)))
    for passages, number in ((sections, 2), (near, 1), (anything, 1)):
        asked_there = ((question, answer) for p in passages for question, _, answer in p.questions)
        free = list(dict.fromkeys(q for q, answer in asked_there if q not in known and not _told(answer, slots, told)))
        for question in random.sample(free, min(number, len(free))):
            asked.append(Asked(question, (), "", (), "unknown"))
            known.add(question)
    return Scene(tuple(slots), tuple(asked))


def _told(answer: str, slots: Sequence[Slot], told: Sequence[set[str]]) -> bool:
    """Whether one of the slots, whose words are `told`, has all that an answer says, and so may be one."""
    wanted = words(answer)
    return any(wanted <= said for said in told) if wanted else any(says(x.text, answer) for x in slots)


def index_of(scene: Scene, dim: int) -> SlotIndex:
    """An index of the scene's slots without their keys: its words, times and speakers."""
    index = SlotIndex(dim)
    index.add(scene.slots, np.zeros((len(scene.slots), dim), dtype=np.float32))
    return index
