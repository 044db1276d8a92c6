"""What two named people tell each other, and what is asked about them afterwards: scenes like an imported conversation.

Two lives are told in the first person, each by a person with a name ("Ana: I keep bees."); the questions speak of them
in the third ("What does Ana keep?") and want the bare value. What only one has told is also asked about the other:
nothing answers that, however much its words are alike. Days are asked for, too: what happened is often told without a
day, and then the day it was told on is all that anybody can say.
"""

from __future__ import annotations

import re
from datetime import timedelta
from random import Random

from mam.dates import PAST_TENSE
from mam.lives import Life, Question, general_prompts, life
from mam.lives.days import undated, written
from mam.lives.generator import listed
from mam.lives.kinds import bank
from mam.lives.plan import NAME
from mam.render import asks_when
from mam.train.data import Asked, Scene, slot
from mam.values import Slot

UNDATED = 0.4  # share of what is told with a day in the past that is told without it
SWAPPED = 0.4  # share of questions that are also asked about the other one
FACTS = (8, 12, 18, 24)  # that each of the two tells

_ASKS = re.compile(
    r"(?:what|which|who|whose|whom|where|when|why|how|do|did|does|is|are|was|were|am|have|has|had)\b", re.I
)
_BARE = frozenset("do does did can could will would should must may might shall to".split())
_IS = {"am": "is", "are": "is", "were": "was", "have": "has", "do": "does", "don't": "doesn't", "haven't": "hasn't"}
_ARE = {"am": "are", "was": "were", "wasn't": "weren't"}
_SHORT = (("i'm", "I am"), ("i've", "I have"), ("i'll", "I will"), ("i'd", "I would"), ("we're", "we are"),
          ("we've", "we have"), ("we'll", "we will"), ("we'd", "we would"))  # fmt: skip
_ADVERB = re.compile(r"(?:always|never|often|only|still|ever|just|first|last|\w+ly)\Z")
_ASKED_FOR_ME = re.compile(r"\b(?:tell|remind|help|give|show|let|for|ask(?:ed)?) $", re.I)


def talk_scene(seed: int, split: str = "train") -> Scene:
    """Two people's lives as one memory; about 16 to 48 slots."""
    random = Random(f"talk {split} {seed}")
    told = [life(2 * seed + i, split, sessions=3, facts=random.choice(FACTS), talk=0) for i in range(2)]
    used = " ".join(fact.text for one in told for fact in one.facts)
    names = random.sample([name for name in bank(split, "names_first") if name not in used], 2)
    slots: list[Slot] = []
    asked: list[Asked] = []
    for one, name, other, others in zip(told, names, reversed(told), reversed(names), strict=True):
        rows, day = _tell(random, one, name, slots)
        asked += _questions(random, one, name, rows, day)
        foreign = {fact.kind for fact in other.facts}
        asked += [
            Asked(about(question.text, others), (), "", (), "unknown")
            for question in one.questions
            if question.evidence and question.kind not in foreign and plain(question) and random.random() < SWAPPED
        ]
    idle = tuple(random.sample(general_prompts(split), min(4, len(general_prompts(split)))))
    now = max(slot.told for slot in slots) + timedelta(days=random.uniform(0.1, 60))
    return Scene(tuple(slots), tuple(asked), idle, now=now, personal=True)


def _tell(random: Random, one: Life, name: str, slots: list[Slot]) -> tuple[dict[int, int], dict[int, str]]:
    """Adds what a life still holds to the slots: rows of its facts, and the days of those told without theirs."""
    replaced = {fact.replaces for fact in one.facts}
    dated = {i for question in one.questions if asks_when(question.text) for i in question.evidence}
    rows, day = {}, {}
    for i, fact in enumerate(one.facts):
        if i in replaced:
            continue
        rows[i] = len(slots)
        text = undated(fact.text, fact.value) if i in dated and random.random() < UNDATED else None
        if text:
            day[i] = written(fact.told.date())
        slots.append(slot(rows[i], text or fact.text, fact.told, name))
    return rows, day


def _questions(random: Random, one: Life, name: str, rows: dict[int, int], day: dict[int, str]) -> list[Asked]:
    names = {one.facts[i].subject: row for i, row in rows.items() if one.facts[i].kind == NAME}
    found = []
    for q in one.questions:
        if not plain(q) or not all(i in rows for i in q.evidence):
            continue
        values = tuple(day[i] for i in q.evidence if i in day) or tuple(map(theirs, q.values))
        who = names.get(q.subject) if q.kind != NAME else None
        evidence = tuple(rows[i] for i in q.evidence)
        found.append(Asked(about(q.text, name), evidence, listed(values) if values else "", values, q.type, who))
    return found


def plain(question: Question) -> bool:
    """Whether it is a question and nothing else: what comes before or after it may be about whoever asks."""
    return bool(_ASKS.match(question.text)) and not re.search(r"[.?!:] \w", question.text)


def about(question: str, name: str) -> str:
    """The question as somebody else asks it about the person of that name; "they" from the second time on.

    >>> about("Where do I keep my bees when I travel?", "Ana")
    'Where does Ana keep their bees when they travel?'
    """
    for short, spelt in _SHORT:
        question = re.sub(rf"\b{short}\b", spelt, question.replace("’", "'"), flags=re.IGNORECASE)
    words = re.split(r"(\W*\s+|\W+$)", question)  # every other one is what stands between them
    named = False
    for at in range(0, len(words), 2):
        word = words[at].lower()
        if word in ("i", "we"):
            before, after = (at - 2 if at else None), (at + 2 if at + 2 < len(words) else None)
            words[at] = "they" if named else name
            _agree(words, before, after, _ARE if named else _IS, bare=named)
            named = True
        elif word in ("my", "our"):
            words[at], named = ("their" if named else f"{name}'s"), True
        elif word in ("mine", "ours"):
            words[at], named = ("theirs" if named else f"{name}'s"), True
        elif word in ("me", "us") and not _ASKED_FOR_ME.search("".join(words[:at])):
            words[at], named = ("them" if named else name), True
        elif word in ("myself", "ourselves"):
            words[at] = "themselves"
    text = "".join(words)
    return text[:1].upper() + text[1:]


def _agree(words: list[str], before: int | None, after: int | None, forms: dict[str, str], bare: bool) -> None:
    """Puts the verb beside a subject into the third person: an auxiliary before it, else the word after it."""
    if before is not None and (word := words[before].lower()) in forms:
        words[before] = forms[word].capitalize() if words[before][0].isupper() else forms[word]
        return
    if after is None or before is not None and words[before].lower() in _BARE | {"was", "is", "are", "had", "has"}:
        return
    word = words[after]
    if word in forms:
        words[after] = forms[word]
    elif not bare and word.isalpha() and not (word in _BARE or PAST_TENSE.fullmatch(word) or _ADVERB.match(word)):
        words[after] = re.sub(r"([^aeiou])y$", r"\1ie", word) + ("es" if re.search(r"(?:[sxo]|ch|sh)$", word) else "s")


def theirs(value: str) -> str:
    """The value as somebody else says it."""
    return re.sub(r"\b(?:my|our)\b", "their", value)
