"""recall: told in three sessions among small talk, asked in a later one; does the reply contain the value?

Memory answers through `Chat.send` as for any user. The baselines are the same frozen base with the best prompt that
was found for each of them and the same budget of eight retrieved items, or the whole history. What the memory's replies
lack is put down to the first stage that failed; see `metrics.losses`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mam import fetch
from mam.bench import baselines, common, prompts
from mam.bench.metrics import losses
from mam.bench.scoring import contains, contains_all, contains_any, share, untold
from mam.index import words
from mam.lives import Fact, Life, Question
from mam.values import Slot, Turn

BASELINES = ("prompt_bm25", "prompt_minilm", "full_context", "none")
ONE = ("single", "date")  # the headline: questions that one fact answers
SEVERAL = ("list", "hop")
STAGES = ("not_kept", "not_read", "answered")
GOLD = prompts.FORMS[prompts.CHOSEN["prompt_bm25"].form]


def right(question: Question, reply: str, abstained: bool = False) -> bool:
    """All values, no stale one; for an unknown, saying so."""
    if question.type == "unknown":
        return abstained or untold(reply)
    return contains_all(reply, question.values) and not contains_any(reply, question.stale)


@dataclass
class Tally:
    """Outcomes of one condition."""

    outcomes: list[tuple[str, bool]] = field(default_factory=list)
    worded: dict[bool, list[bool]] = field(default_factory=lambda: {True: [], False: []})  # of what one fact answers

    def add(self, life: Life, question: Question, reply: str, abstained: bool = False) -> None:
        ok = right(question, reply, abstained)
        self.outcomes.append((question.type, ok))
        if question.type in ONE:
            self.worded[in_its_words(life, question)].append(ok)

    def share(self, *types: str) -> float | None:
        return share(ok for kind, ok in self.outcomes if kind in types)

    def summary(self) -> dict:
        return {
            "one_fact": self.share(*ONE),
            "one_fact_in_its_words": share(self.worded[True]),
            "one_fact_in_other_words": share(self.worded[False]),
            "several_facts": self.share(*SEVERAL),
            "by_type": common.by_type(self.outcomes),
        }


def holds(slot: Slot, fact: Fact) -> bool:
    return contains(slot.text, fact.value)


def in_its_words(life: Life, question: Question) -> bool:
    """Whether the question shares a word with what was told, besides whom it is about: else none leads back to it."""
    told = words(" ".join(fact.text for fact in evidence(life, question)))
    return bool(words(question.text) & told - words(question.subject))


def evidence(life: Life, question: Question) -> list[Fact]:
    return [life.facts[i] for i in question.evidence]


def hit(turn: Turn, facts: list[Fact]) -> bool:
    """Whether every fact the answer needs is among the slots that were handed to the base."""
    given = [read.slot for read in turn.reads if read.given]
    return all(any(holds(slot, fact) for slot in given) for fact in facts)


def answering(turn: Turn, facts: list[Fact]) -> list[str]:
    """What the base was given that holds one of the facts."""
    return [read.slot.text for read in turn.reads if read.given and any(holds(read.slot, fact) for fact in facts)]


def _score(row: dict, reply: str) -> float:
    return float(right(row["asked"], reply))


def run(world: common.World, settings: common.Settings) -> dict:
    clock, memory, others = common.Clock(), Tally(), {name: Tally() for name in BASELINES}
    hits: list[tuple[str, bool]] = []
    written: list[bool] = []
    rows: list[dict] = []
    with clock("load_encoder"):
        minilm = baselines.MiniLM(fetch.encoder())
    for life in common.lives(settings, "recall"):
        questions = common.chosen_questions(life)
        with world.space() as space:
            with clock("tell"):
                common.tell(space, life)
            slots = space.slots()
            with clock("memory"):
                turns = [common.ask(space, question.text) for question in questions]
        asked, notes = [], []
        for question, turn in zip(questions, turns, strict=True):
            memory.add(life, question, turn.reply, turn.abstained)
            if facts := evidence(life, question):
                kept = [any(holds(slot, fact) for slot in slots) for fact in facts]
                written += kept
                hits.append((question.type, hit(turn, facts)))
                stage = "not_kept" if not all(kept) else "answered" if hits[-1][1] else "not_read"
                score = float(right(question, turn.reply, turn.abstained))
                asked.append({"asked": question, "question": question.text, "score": score, "stage": stage})
                notes.append(answering(turn, facts) if stage == STAGES[-1] else [])
        with clock("gold_prompt"):
            rows += baselines.with_gold_prompt(world.base, asked, notes, _score, GOLD, common.MAX_TOKENS)
        told = baselines.Told.in_life(life)
        for name in BASELINES:
            with clock(name):
                lists = baselines.message_lists(name, told, [question.text for question in questions], minilm)
                replies = baselines.answers(world.base, lists, common.MAX_TOKENS)
            for question, reply in zip(questions, replies, strict=True):
                others[name].add(life, question, reply)
    return _results(memory, others, hits, written, clock) | losses(rows, STAGES)


def _results(memory: Tally, others: dict[str, Tally], hits: list, written: list, clock: common.Clock) -> dict:
    return {
        "memory": memory.share(*ONE),
        "memory_date": memory.share("date"),
        "multi_slot": memory.share(*SEVERAL),
        **{name: tally.share(*ONE) for name, tally in others.items()},
        "reader_hit": share(ok for _, ok in hits),
        "written": share(written),
        "memory_details": {**memory.summary(), "reader_hit_by_type": common.by_type(hits)},
        "baseline_details": {name: tally.summary() for name, tally in others.items()},
        "baseline_prompts": {
            name: {"prompt": str(choice), "validation": choice.score} for name, choice in prompts.CHOSEN.items()
        },
        "questions": len(memory.outcomes),
        "seconds_by_part": clock.rounded(),
    }
