"""recall: told in three sessions among small talk, asked in a later one; does the reply contain the value?

Memory answers through `Chat.send` as for any user. The baselines are the same frozen base with the best prompt that
was found for each of them and the same budget of eight retrieved items, or the whole history. What the memory's replies
lack is put down to the first stage that failed; see `metrics.losses`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from mam import fetch
from mam.bench import baselines, common, prompts
from mam.bench.metrics import losses
from mam.bench.parts import digest
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


def tally(rows: Sequence[dict], who: str) -> dict:
    """Shares of replies that are right: who replied, the memory or a baseline."""

    def of(rows: Iterable[dict]) -> float | None:
        return share(row["right"][who] for row in rows)

    one = [row for row in rows if row["type"] in ONE]
    return {
        "one_fact": of(one),
        "one_fact_in_its_words": of(row for row in one if row["in_its_words"]),
        "one_fact_in_other_words": of(row for row in one if not row["in_its_words"]),
        "several_facts": of(row for row in rows if row["type"] in SEVERAL),
        "by_type": common.by_type([(row["type"], row["right"][who]) for row in rows]),
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


def run(world: common.World, settings: common.Settings) -> dict:
    done, clock, lives = common.parts("recall", world, settings), common.Clock(), []
    with clock("load_encoder"):
        minilm = baselines.MiniLM(fetch.encoder())
    for life in common.lives(settings, "recall"):
        lives.append(done(f"{life.seed} {digest(life)}", partial(asked, world, life, minilm)))
    for part in lives:
        clock.add(part["seconds"])
    return results([row for part in lives for row in part["questions"]], clock)


def asked(world: common.World, life: Life, minilm: baselines.MiniLM) -> dict:
    """Tell a life to an empty space, then ask the memory and the baselines: a row for each question, and seconds."""
    clock, questions = common.Clock(), common.chosen_questions(life)
    with world.space() as space:
        with clock("tell"):
            common.tell(space, life)
        slots = space.slots()
        with clock("memory"):
            turns = [common.ask(space, question.text) for question in questions]
    rows, notes = [], []
    for number, (question, turn) in enumerate(zip(questions, turns, strict=True)):
        ok, facts = right(question, turn.reply, turn.abstained), evidence(life, question)
        kept = [any(holds(slot, fact) for slot in slots) for fact in facts]
        stage = "not_kept" if not all(kept) else "answered" if hit(turn, facts) else "not_read"
        rows.append({
            "number": number, "question": question.text, "type": question.type,
            "in_its_words": in_its_words(life, question), "reply": turn.reply, "right": {"memory": ok},
            "score": float(ok), "written": kept, "stage": stage, "hit": hit(turn, facts),
        })  # fmt: skip
        notes.append(answering(turn, facts) if facts and stage == STAGES[-1] else [])

    def score(row: dict, reply: str) -> float:
        return float(right(questions[row["number"]], reply))

    with clock("gold_prompt"):
        rows = baselines.with_gold_prompt(world.base, rows, notes, score, GOLD, common.MAX_TOKENS)
    told = baselines.Told.in_life(life)
    for name in BASELINES:
        with clock(name):
            lists = baselines.message_lists(name, told, [question.text for question in questions], minilm)
            replies = baselines.answers(world.base, lists, common.MAX_TOKENS)
        for row, question, reply in zip(rows, questions, replies, strict=True):
            row["right"][name] = right(question, reply)
    return {"questions": rows, "seconds": clock.seconds}


def results(rows: Sequence[dict], clock: common.Clock) -> dict:
    """rows: of all lives. What nothing was told about took no evidence, and counts neither as found nor as lost."""
    memory, others = tally(rows, "memory"), {name: tally(rows, name) for name in BASELINES}
    told = [row for row in rows if row["written"]]
    hits = [(row["type"], row["hit"]) for row in told]
    return {
        "memory": memory["one_fact"],
        "memory_date": memory["by_type"].get("date"),
        "multi_slot": memory["several_facts"],
        **{name: summary["one_fact"] for name, summary in others.items()},
        "reader_hit": share(ok for _, ok in hits),
        "written": share(kept for row in told for kept in row["written"]),
        "memory_details": {**memory, "reader_hit_by_type": common.by_type(hits)},
        "baseline_details": others,
        "baseline_prompts": {
            name: {"prompt": str(choice), "validation": choice.score} for name, choice in prompts.CHOSEN.items()
        },
        "questions": len(rows),
        "seconds_by_part": clock.rounded(),
    } | losses(told, STAGES)
