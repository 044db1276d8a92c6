"""From documents to reflections: the five steps of MeMo (arXiv 2605.15156), sentence by sentence.

    facts              questions, direct and indirect, that a sentence answers (with the one it leans on, if it does)
    self-containment   a question that does not name what it speaks of is repaired, or dropped
    verification       see `verify`; only what passes goes on, and no pair of the later steps is spared it
    consolidation      two related facts of a document in one question
    entity surfacing   questions that lead to an entity, against the reversal curse
    cross-document     the same for facts of two documents of a shard: converging clues, shared properties

Beside them questions that the documents do not answer. What is asked about a document, and about two, depends on these
alone, never on what else there is: that is what makes deletion exact. Knows values, a generator and a verification, but
no files.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, count
from random import Random

from mam.exchange import clean
from mam.lives import general_prompts, personal_questions
from mam.packs.files import digest
from mam.packs.generators import PRONOUN, Generator, names_in, plain, stands_alone
from mam.packs.memo import Memo
from mam.packs.values import (
    CONSOLIDATED,
    CROSS,
    DECLINES,
    DIRECT,
    ENTITY,
    INDIRECT,
    UNKNOWN,
    Document,
    Pair,
    Reflection,
    Sentence,
    Source,
)
from mam.packs.verify import Asked, same

BACK = 3  # sentences that a pronoun may point back over
SHORTEST = 5  # words of a sentence in which a gap makes sense
GAPS = 2  # entities of a sentence that are asked for
LONGEST_QUESTION, LONGEST_ANSWER = 1000, 300  # characters
TOGETHER = 8  # joined facts that are verified together
ACROSS = 8  # pairs of facts of two documents that are tried
SWAPPED, GENERAL = 4, 10  # one unanswerable question for so many facts: with another name in it; about something else
INVENTED = ("Corvandel", "Ostrimund", "Velmira", "Thandrick", "Isquelle", "Marwendo", "Pelagrin", "Zofrenna")
_INDIRECT = re.compile(r"\W*(?:why|how(?!\s+(?:many|much|old|long|far|often|tall|big)))\b", re.I)

Verify = Callable[[Sequence[Asked], str], list[str]]  # some questions together, name of their document -> replies
Found = tuple[str, Pair, Sequence[Sentence]]  # a pair of a kind, with its sources, that is to be verified


class Reflector:
    """Reflections of documents, by a generator and a verification whose every call goes through a memo.

    generator: opens it; not called as long as the memo knows everything.
    """

    def __init__(self, generator: Callable[[], Generator], verify: Verify, memo: Memo):
        self._generator, self._verify, self._memo = generator, verify, memo

    def of_shard(
        self, documents: Sequence[Document], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> list[Reflection]:
        """All reflections of these documents, those that are not kept among them.

        progress: is told how many sentences were gone through, of how many, each twice, and may raise to interrupt.
        """
        total, facts, found = 2 * sum(len(d.sentences) for d in documents), {}, []
        steps = count()

        def step() -> None:
            progress(next(steps), total)

        for document in documents:
            own: list[Reflection] = []
            for i in range(len(document.sentences)):
                step()
                own += self._facts(document, i)
            own = _different(own)
            facts[document.name] = [r for r in own if r.kept]
            together = self._combined(CONSOLIDATED, [document], facts[document.name], None, len(document.sentences))
            own = _said_together(own, together)
            found += [*own, *together, *self._entities(document, facts[document.name], step)]
            found += _unanswerable(document, facts[document.name])
        across = [
            reflection
            for one, other in combinations(documents, 2)
            for reflection in self._combined(CROSS, [one, other], facts[one.name], facts[other.name], ACROSS)
        ]
        progress(total, total)
        return [*_said_together(found, across), *across]

    # ---- one document --------------------------------------------------------------------------------------------

    def _facts(self, document: Document, i: int) -> list[Reflection]:
        sources = with_antecedent(document.sentences, i)
        text, found, dropped = _joined(sources), [], []
        for pair in self._made("facts", [text], _texts(sources), lambda: self._generator().facts(text)):
            kind = INDIRECT if _INDIRECT.match(pair.question) else DIRECT
            if stands_alone(pair.question):
                found.append((kind, pair, sources))
                continue
            window = document.sentences[max(i - BACK, 0) : i + 1]
            shown = _joined(window)
            inputs = [shown, pair.question, pair.answer]
            repaired = self._made(
                "repair", inputs, _texts(window), lambda p=pair, t=shown: [self._generator().repair(t, p)]
            )
            if repaired and stands_alone(repaired[0].question):
                found.append((kind, repaired[0], window))
            else:
                made = _reflection(kind, pair, document.name, sources)
                dropped.append(replace(made, kept=False, why="does not stand alone"))
        return [*self._verified(found, [document]), *dropped]

    def _entities(self, document: Document, facts: Sequence[Reflection], step: Callable[[], None]) -> list[Reflection]:
        answers = defaultdict(list)
        for fact in facts:
            if re.match(r"\W*who\b", fact.question, re.I):
                answers[fact.sources[-1].number].append(fact.answer)
        found = []
        for sentence in document.sentences:
            step()
            if len(sentence.text.split()) < SHORTEST:
                continue
            entities = [e for e in (*names_in(sentence.text), *answers[sentence.number]) if e in sentence.text]
            pairs = []
            for entity in list(dict.fromkeys(e for e in entities if not PRONOUN.fullmatch(e)))[:GAPS]:
                made = self._made(
                    "surface", [sentence.text, entity], [], lambda e=entity, t=sentence.text: [
                        self._generator().surface(t, e)]
                )  # fmt: skip
                pairs += [(ENTITY, pair, [sentence]) for pair in made]
            found += self._verified(pairs, [document])
        return found

    # ---- two facts -----------------------------------------------------------------------------------------------

    def _combined(
        self,
        kind: str,
        documents: Sequence[Document],
        first: Sequence[Reflection],
        second: Sequence[Reflection] | None,
        most: int,
    ) -> list[Reflection]:
        """Related facts, both of `first` or one of `first` and one of `second`, in one question each."""
        by_place = {Source(d.name, s.number): s for d in documents for s in d.sentences}
        joined, from_both = [], []
        for one, other in related(first, second, most):
            places = list(dict.fromkeys((*one.sources, *other.sources)))
            sources = [by_place[place] for place in places]
            text, pairs = _joined(sources), (Pair(one.question, one.answer), Pair(other.question, other.answer))
            inputs = [text, *(part for pair in pairs for part in (pair.question, pair.answer))]
            made = self._made(
                "combine", inputs, _texts(sources), lambda t=text, p=pairs: [self._generator().combine(t, *p)]
            )
            joined += [(kind, pair, sources) for pair in made]
            from_both += [tuple(places)] * len(made)
        checked = [
            reflection
            for start in range(0, len(joined), TOGETHER)
            for reflection in self._verified(joined[start : start + TOGETHER], documents)
        ]
        return [replace(r, sources=places) for r, places in zip(checked, from_both, strict=True)]

    # ---- both ----------------------------------------------------------------------------------------------------

    def _made(self, task: str, inputs: list[str], sources: list[str], write: Callable) -> list[Pair]:
        """What the generator makes of the inputs; `sources`: the sentences in them, for the memo to know them by."""

        def compute() -> list[dict]:
            return [{"question": clean(pair.question), "answer": clean(pair.answer)} for pair in write() if pair]

        pairs = [Pair(_line(p["question"]), _line(p["answer"])) for p in self._memo(task, [*inputs, *sources], compute)]
        return [p for p in pairs if len(p.question) <= LONGEST_QUESTION and len(p.answer) <= LONGEST_ANSWER]

    def _verified(self, found: Sequence[Found], documents: Sequence[Document]) -> list[Reflection]:
        """Pairs of one or two documents, asked together: what comes out depends on these alone."""
        if not found:
            return []
        name = " and ".join(document.name for document in documents)
        asked = [Asked(pair.question, pair.answer, tuple(_texts(sources))) for _, pair, sources in found]
        inputs = [part for one in asked for part in (one.question, one.answer, str(len(one.sources)), *one.sources)]

        def verify() -> list[dict[str, str]]:
            heard = self._verify(asked, name)
            return [{"question": a.question, "answer": clean(reply)} for a, reply in zip(asked, heard, strict=True)]

        replies = [_line(one["answer"]) for one in self._memo("verify", [name, *inputs], verify)]
        checked = []
        for (kind, pair, sources), reply in zip(found, replies, strict=True):
            told = "read as another answer" if reply else "not found in its source"
            why = "" if same(reply, pair.answer, pair.question) else told
            made = _reflection(kind, pair, documents[0].name, sources)
            checked.append(replace(made, reply=reply, kept=not why, why=why))
        return checked


def related(
    first: Sequence[Reflection], second: Sequence[Reflection] | None, most: int
) -> list[tuple[Reflection, Reflection]]:
    """At most `most` pairs of facts: first those that ask the same, then with one answer, then about one name."""
    found: dict[tuple[str, str], tuple[Reflection, Reflection]] = {}
    others = first if second is None else second
    for keys in (_asked, _answer, _names):
        groups = defaultdict(list)
        for place, fact in enumerate(others):
            for key in keys(fact):
                groups[key].append((place, fact))
        for place, fact in enumerate(first):
            for key in keys(fact):
                for at, other in groups[key]:
                    if (second is None and at <= place) or _repeats(fact, other):
                        continue
                    if len(found) >= most:
                        return list(found.values())
                    found.setdefault((fact.id, other.id), (fact, other))
    return list(found.values())


def training_set(reflections: Sequence[Reflection]) -> list[tuple[str, str]]:
    """What an adapter learns: (question, answer), in order."""
    return [(r.question, r.answer) for r in reflections if r.kept]


def _asked(fact: Reflection) -> list[str]:
    return [plain(fact.question)]


def _answer(fact: Reflection) -> list[str]:
    return [plain(fact.answer)] if len(fact.answer) > 2 and plain(fact.answer) not in ("yes", "no") else []


def _names(fact: Reflection) -> list[str]:
    return names_in(fact.question)


def _repeats(fact: Reflection, other: Reflection) -> bool:
    """Whether the two say the same, so that nothing is gained by joining them."""
    if plain(fact.question) != plain(other.question):
        return False
    one, two = plain(fact.answer), plain(other.answer)
    return one in two or two in one


def _different(found: Sequence[Reflection]) -> list[Reflection]:
    """Without those whose question and answer came before."""
    return list({reflection.id: reflection for reflection in reversed(found)}.values())[::-1]


def _said_together(own: Sequence[Reflection], together: Sequence[Reflection]) -> list[Reflection]:
    """Facts whose question has a fuller answer now are not trained on: one question would have two answers."""
    fuller = {r.question: r.answer for r in together if r.kept}

    def checked(r: Reflection) -> Reflection:
        full = fuller.get(r.question)
        return replace(r, kept=False, why="part of a fuller answer") if r.kept and full and r.answer in full else r

    return list(map(checked, own))


def _unanswerable(document: Document, facts: Sequence[Reflection]) -> list[Reflection]:
    """Questions about somebody who is not in the document, and about other things altogether."""
    text, found = " ".join(sentence.text for sentence in document.sentences), []
    for fact in [fact for fact in facts if names_in(fact.question)][::SWAPPED]:
        stranger = Random(fact.id).choice([name for name in INVENTED if name not in text] or ["Nobody-such"])
        question = fact.question.replace(names_in(fact.question)[-1], stranger)
        found.append(_reflection(UNKNOWN, Pair(question, DECLINES), "", [], fact.sources))
    others = [q for q in (*personal_questions("train"), *general_prompts("train")) if q.endswith("?")]
    chosen = Random(document.name).sample(others, min(len(facts) // GENERAL + 1, len(others)))
    return _different([*found, *(_reflection(UNKNOWN, Pair(question, DECLINES), "", []) for question in chosen)])


def with_antecedent(sentences: Sequence[Sentence], i: int) -> list[Sentence]:
    """A sentence, with the nearest one before it that has a name if its own subject is only a pronoun."""
    own = sentences[i]
    pronoun = PRONOUN.search(own.text)
    if not pronoun or names_in(own.text[: pronoun.start()]):
        return [own]
    before = reversed(sentences[max(i - BACK, 0) : i])
    named = next((sentence for sentence in before if names_in(sentence.text)), None)
    return [named, own] if named else [own]


def _reflection(
    kind: str, pair: Pair, document: str, sentences: Sequence[Sentence], sources: Sequence[Source] = ()
) -> Reflection:
    sources = tuple(sources) or tuple(Source(document, sentence.number) for sentence in sentences)
    id = digest([kind, pair.question, pair.answer, [s.text for s in sentences]])[:16]
    return Reflection(id, kind, pair.question, pair.answer, sources)


def _line(said: str) -> str:
    """What a generator or an endpoint, or the memo of a pack from elsewhere, says: one line that can be shown."""
    return " ".join(clean(said, " ").split())


def _joined(sentences: Sequence[Sentence]) -> str:
    return " ".join(_texts(sentences))


def _texts(sentences: Sequence[Sentence]) -> list[str]:
    return [sentence.text for sentence in sentences]
