"""Conversations about invented people's lives, with the label of every sentence and the questions that follow.

    plan (what there is to know) ──► sessions of utterances (facts among small talk) ──► facts, questions

Training and benchmarks draw their examples here. A life depends on its seed, its split and its sizes alone, in any
process. The module knows nothing of candidates, slots or models: it says what was told and what was meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random

from ..errors import InputError
from .days import named_day, written
from .kinds import Kind, bank, phrases
from .phrasing import filled, framed, lowered, roughened
from .plan import NAME, SELF, Item, Planner
from .values import Fact, Life, LifeSession, Question, Sentence, Utterance

UNKNOWN = "You haven't told me that."  # the answer to a question about something never told
_MINUTE = timedelta(minutes=1)
_TALK = (  # (label, section of talk.yaml, weight): what a user says besides facts
    ("chatter", "chatter", 8), ("question", "questions", 7), ("command", "commands", 4),
    ("statement", "statements", 3), ("hypothetical", "hypotheticals", 3), ("recall", "", 2),
)  # fmt: skip


def life(seed: int, split: str = "train", *, sessions: int = 3, facts: int = 24, talk: float = 1.0) -> Life:
    """One invented life.

    sessions: conversations over days to months; facts: things worth keeping, changes included; talk: amount of small
    talk per fact (0: none). Raises InputError for an unknown split or sizes below 1.
    """
    if sessions < 1 or facts < 1 or talk < 0:
        raise InputError("A life needs at least one session and one fact, and no negative amount of talk.")
    random = Random(f"{split}/{seed}/{sessions}/{facts}")
    planner = Planner(random, split, sessions, facts)
    groups = planner.groups_of_life()
    teller = _Teller(random, split, talk)
    items = [item for group in groups for item in group]
    started = _beginning(random)
    for number in range(sessions):
        teller.session(number, started, [item for item in items if item.session == number])
        started = _later(random, started)
    questions = [_question(random, split, group) for group in groups]
    questions += _unknown(random, split, planner, count=max(2, round(facts / 3)))
    random.shuffle(questions)
    return Life(seed, split, tuple(teller.sessions), tuple(teller.facts), tuple(questions))


def _beginning(random: Random) -> datetime:
    day = datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=random.randrange(1800))
    return day + timedelta(hours=random.randrange(7, 21), minutes=random.randrange(60))


def _later(random: Random, started: datetime) -> datetime:
    days = random.choice((random.randint(1, 6), random.randint(7, 30), random.randint(30, 90)))
    return started.replace(hour=random.randrange(7, 21), minute=random.randrange(60)) + timedelta(days=days)


class _Teller:
    """Puts the items of a plan into words, session by session."""

    def __init__(self, random: Random, split: str, talk: float):
        self.random, self.split, self.talk = random, split, talk
        self.sessions: list[LifeSession] = []
        self.facts: list[Fact] = []
        self.items: list[Item] = []  # told so far, in step with `facts`
        self.recalled: dict[str, Item] = {}  # what a question asked along the way is about
        self.spare: dict[str, list[str]] = {}  # small talk not used yet, by section
        self.now = datetime.min
        self.utterances: list[Utterance] = []

    def session(self, number: int, started: datetime, items: list[Item]) -> None:
        self.now, self.utterances = started, []
        units: list[Callable[[], tuple[Sentence, ...]]] = [
            lambda unit=unit: self._facts(unit, number) for unit in self._units(items)
        ]
        small = round(self.talk * len(units) * self.random.uniform(0.6, 1.2)) or bool(self.talk)
        order = [True] * len(units) + [False] * small
        self.random.shuffle(order)
        if self.talk and self.random.random() < 0.6:
            self._exchange((self._said("greeting", "greetings"),))
        for tells in order:
            self._exchange(units.pop(0)() if tells else (self._small_talk(number),))
        if self.talk and self.random.random() < 0.4:
            self._exchange((self._said("closing", "closings"),))
        self.sessions.append(LifeSession(started, tuple(self.utterances)))

    # -- facts -------------------------------------------------------------------------------------------------

    def _units(self, items: list[Item]) -> list[list[Item]]:
        """The items of a session in the order of telling, those of one utterance together (one or two)."""
        order = self.random.sample(items, len(items))
        for item in items:  # a name is told before it is used, an old value before the new one
            for first in (item.name, item.old):
                if first in order and order.index(first) > order.index(item):
                    order.remove(first)
                    order.insert(order.index(item), first)
        units: list[list[Item]] = []
        while order:
            unit = [order.pop(0)]
            second = next((item for item in order if self._can_follow(unit[0], item)), None)
            if second and self.random.random() < 0.5:
                unit.append(second)
            elif order and self.random.random() < 0.18 and order[0].subject != unit[0].subject:
                unit.append(order[0])
            for item in unit[1:]:
                order.remove(item)
            units.append(unit)
        return units

    def _can_follow(self, first: Item, second: Item) -> bool:
        """Whether `second` may be told as "He ..." right after `first`."""
        same = first.subject == second.subject != SELF and first.kind != second.kind
        by_relation = not (first.name and first.told_by_name) and second.kind.name != NAME and not second.old
        opens = any(text.startswith("My {who}") for text in second.kind.tell)
        return same and by_relation and opens

    def _facts(self, unit: list[Item], number: int) -> tuple[Sentence, ...]:
        """The sentences of an utterance that tells the items of `unit`, perhaps beside some small talk."""
        sentences = self._two_facts(*unit, number) if len(unit) == 2 else (self._fact(unit[0], number),)
        roll = self.random.random() if self.talk else 1.0
        if roll < 0.12:
            return (self._said("chatter", "interjections"), *sentences)
        if roll < 0.22 and sentences[-1].text[-1] in ".!?":
            label, section = self.random.choice((("question", "questions"), ("command", "commands")))
            return (*sentences, self._said(label, section))
        return sentences

    def _two_facts(self, first: Item, second: Item, number: int) -> tuple[Sentence, ...]:
        if self._can_follow(first, second):
            one = self._fact(first, number, last=False, plain=True)
            return one, self._fact(second, number, after=first)
        if self.random.random() < 0.5:
            return self._fact(first, number, last=False), self._fact(second, number)
        one, two = self._fact(first, number, last=False, plain=True), self._fact(second, number, plain=True)
        clumsy = re.search(r"[,:;?!—] |[?]$|\band\b|\bbut\b", one.text) or re.search(r"[:;?!—] ", two.text)
        if clumsy or len(one.text + two.text) > 140:
            return one, two
        joined = f"{one.text[:-1]},", f"and {two.text if self._starts_with_value(second) else lowered(two.text)}"
        return tuple(Sentence(text, True, s.kind, s.fact) for text, s in zip(joined, (one, two), strict=True))

    def _starts_with_value(self, item: Item) -> bool:
        return item.text.startswith((item.value, item.name.value if item.name else item.value))

    def _fact(
        self, item: Item, number: int, *, last: bool = True, plain: bool = False, after: Item | None = None
    ) -> Sentence:
        """Tells one item and records it. plain: no lead-in and no slips; after: told with a pronoun after that one."""
        template = self._template(item, after)
        if not plain and not after and self.random.random() < 0.18 and not item.old:
            template = framed(self.random.choice(phrases(self.split, "leadins")), template)
        if not plain and not after:
            template = roughened(self.random, template, last=last)
        said, told = self._day(template, item) if item.kind.when else (template, template)
        values = {
            "v": item.value, "who": item.subject,
            "old": item.old.value if item.old else "", "name": item.name.value if item.name else "",
        }  # fmt: skip
        said, item.text = filled(said, **values), filled(told, **values)
        if after:
            item.text = f"{after.text} {item.text}"
        item.index = len(self.facts)
        self.items.append(item)
        at = self.now + len(self.utterances) * _MINUTE
        replaces = item.old.index if item.old else None
        self.facts.append(Fact(item.kind.name, item.subject, item.text, item.value, number, at, replaces))
        return Sentence(said, True, "update" if item.old else "fact", item.index)

    def _template(self, item: Item, after: Item | None) -> str:
        """A way to tell the item, with {name} for "my {who}" where the name stands in."""
        if after:
            template = self.random.choice([text for text in item.kind.tell if text.startswith("My {who}")])
            item.name = None  # the relation stands in the sentence before, so no name is needed to answer
            template = re.sub(r"^My \{who\}'s", "Her" if item.she else "His", template)
            return re.sub(r"^My \{who\}", "She" if item.she else "He", template)
        template = self.random.choice(item.kind.update if item.old else item.kind.tell)
        if item.name and item.told_by_name:
            template = re.sub(r"\b[Mm]y \{who\}", "{name}", template)
        return template

    def _day(self, template: str, item: Item) -> tuple[str, str]:
        """Fills in a day: as said, and as a slot would hold it. Sets the item's value to the date."""
        words, day = named_day(self.random, self.now.date(), item.kind.when)
        while item.old and written(day) == item.old.value:
            words, day = named_day(self.random, self.now.date(), item.kind.when)
        item.value = written(day)
        return filled(template, when=words), filled(template, when=f"{words} ({item.value})")

    # -- small talk --------------------------------------------------------------------------------------------

    def _exchange(self, sentences: tuple[Sentence, ...]) -> None:
        """The user's utterance and the assistant's reply to it."""
        self.utterances.append(Utterance("user", sentences))
        self.utterances.append(Utterance("assistant", self._reply(sentences)))

    def _reply(self, sentences: tuple[Sentence, ...]) -> tuple[Sentence, ...]:
        kind, fact = sentences[-1].kind, sentences[-1].fact
        if kind == "recall":
            return (Sentence(_answer([self.recalled[sentences[-1].text]]), False, "echo"),)
        if kind in ("question", "command"):
            said = [self._said("reply", "replies")]
        elif kind in ("greeting", "closing"):
            return (self._said("reaction", f"{kind}s_back"),)
        elif fact is not None and self.random.random() < 0.1:
            said = [Sentence(_answer([self.items[fact]]), False, "echo")]
        else:
            said = [self._said("reaction", "reactions")]
        if kind not in ("question", "command") and self.random.random() < 0.3:
            said.append(self._said("question", "questions_back"))
        if self.random.random() < 0.2:
            said.insert(self.random.randint(0, 1), self._said("invention", "inventions"))
        return tuple(said)

    def _small_talk(self, number: int) -> Sentence:
        """Anything but a fact; now and then a question about something told in an earlier session."""
        labels, sections, weights = zip(*_TALK, strict=True)
        at = self.random.choices(range(len(_TALK)), weights)[0]
        if labels[at] != "recall":
            return self._said(labels[at], sections[at])
        changed = {item.old for item in self.items}
        known = [item for item in self.items if item.session < number and item not in changed]
        known = [item for item in known if not item.name and not item.kind.many]
        if not known:
            return self._said("chatter", "chatter")
        item = self.random.choice(known)
        text = _ask(self.random, self.split, item)
        self.recalled[text] = item
        return Sentence(text, False, "recall")

    def _said(self, label: str, section: str) -> Sentence:
        """A phrase of talk.yaml not yet used in this life (all of them again once they run out)."""
        spare = self.spare.setdefault(section, [])
        if not spare:
            spare += self.random.sample(phrases(self.split, section), len(phrases(self.split, section)))
        text = re.sub(r"\{(\w+)\}", lambda mark: self.random.choice(bank(self.split, mark[1])), spare.pop())
        return Sentence(text, False, label)


# -- questions ---------------------------------------------------------------------------------------------------


def _question(random: Random, split: str, group: list[Item]) -> Question:
    item = group[-1]
    text = _ask(random, split, item)
    evidence = (item.index,)
    values, stale = _parts(item.value), ()
    form = "date" if item.kind.when else "single"
    if item.kind.many:
        form, evidence = "list", tuple(told.index for told in group)
        values = tuple(part for told in group for part in _parts(told.value))
    elif item.old:
        form, stale = "updated", (_yours(item.old.value),)
    elif item.name:
        form, evidence = "hop", (item.name.index, item.index)
    answer = _answer(group if item.kind.many else [item])
    return Question(text, form, answer, values, evidence, stale, item.kind.name, item.subject)


def _unknown(random: Random, split: str, planner: Planner, count: int) -> list[Question]:
    """Questions about what was never told: half of them close to something told, half far from everything."""
    near, far = _near(planner), _far(planner)
    random.shuffle(near)
    random.shuffle(far)
    half = min(len(near), (count + 1) // 2)
    chosen = near[:half] + far[: count - half]
    questions = []
    for kind, subject in chosen:
        name = planner.names.get(subject) if random.random() < 0.4 and kind.name != NAME else None
        item = Item(kind, subject, "", 0, name=name)
        questions.append(Question(_ask(random, split, item), "unknown", UNKNOWN, (), (), (), kind.name, subject))
    return questions


def _near(planner: Planner) -> list[tuple[Kind, str]]:
    """Kinds told of somebody else, and untold kinds of a family of which something was told of the same person."""
    found = []
    for told in {group[0].kind.name: group[0].kind for group in planner.groups}.values():
        if told.name == NAME:
            continue
        found += [(told, who) for who in planner.circle if who in told.who and (told.name, who) not in planner.taken]
        for kind in planner.pool:
            if kind.family != told.family or kind == told:
                continue
            subjects = [who for who in planner.circle if who in kind.who] if kind.who else [SELF]
            for subject in subjects:
                same_person = planner.told(kind.family, subject)
                vague = same_person and (kind.many or any(other.many for other in same_person))
                if (kind.name, subject) not in planner.taken and not vague:
                    found.append((kind, subject))
    return list(dict.fromkeys(found))


def _far(planner: Planner) -> list[tuple[Kind, str]]:
    told = {group[0].kind.family for group in planner.groups}
    untold = [kind for kind in planner.pool if kind.family not in told]
    return [(kind, planner.random.choice(kind.who) if kind.who else SELF) for kind in untold]


def _ask(random: Random, split: str, item: Item) -> str:
    """A question for the item, as somebody would type it."""
    text = random.choice(item.kind.ask)
    if item.name and not item.told_by_name:
        text = re.sub(r"\b[Mm]y \{who\}", item.name.value, text)
    text = filled(text, who=item.subject)
    roll = random.random()
    if roll < 0.2:
        return framed(random.choice(phrases(split, "frames")), text)
    if roll < 0.3:
        return lowered(text)
    return text.rstrip("?") if roll < 0.35 else text


def _answer(items: list[Item]) -> str:
    return filled(items[0].kind.answer, v=listed([_yours(item.value) for item in items]), who=items[0].subject)


def listed(values: Sequence[str]) -> str:
    """Things as a sentence lists them: "a", "a and b", "a, b and c"."""
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} and {values[-1]}"


def _yours(value: str) -> str:
    """The value as the assistant says it: "my wallet" becomes "your wallet"."""
    return re.sub(r"\b(my|our)\b", "your", value)


def _parts(value: str) -> tuple[str, ...]:
    """What both the user and the assistant say of a value: "wallet"; "quarrelling with" and "brother"."""
    return tuple(part for part in re.split(r" ?\b(?:my|our)\b ?", value) if part)


# -- phrases for others ------------------------------------------------------------------------------------------


def general_prompts(split: str) -> list[str]:
    """Ordinary prompts that have nothing to do with the user's memory: knowledge, maths, writing, code, advice."""
    return list(phrases(split, "general"))


def commands(split: str) -> list[str]:
    """Requests to write, translate, compute or list something."""
    return list(phrases(split, "commands"))


def personal_questions(split: str) -> list[str]:
    """Prompts that look personal but ask for nothing that a memory could hold: "I'm bored", "Tell my future"."""
    return list(phrases(split, "personal"))
