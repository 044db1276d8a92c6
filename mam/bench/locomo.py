"""locomo: conversations of two people over months, imported turn by turn, then every published question asked.

Once with the write gate as it is and once with it open. Every turn goes through `Chat.observe`, as an import does;
every question is asked in a session of its own that writes nothing. Replies are scored by the official metric.

`recall_at_k` is the share of evidence turns among the best k as a turn ranks them: the slots that the turn weighed, by
their weights, then all others as the reader's first look finds them. In `recall_deep` the second look has judged 64
slots and not eight: what reading more would find.

A question of categories 1 to 4 passes three stages, and what its reply lacks to a full score is put down to the first
at which it failed: every evidence turn has an active slot (else "not_kept"), every evidence turn has a slot among those
given to the base (else "not_read"), the base answers. What it answers wrongly was lost in "integrating" if it answers
rightly when it is given the evidence's slots and nothing else, in its prompt or through the integrator, else in the
"base" (see `metrics.losses`). F1 and the four losses add up to 100. Evaluation only: nothing in this project is trained
or tuned on LoCoMo, and that prompt has the form that serves best on other documents (`prompts.GOLD`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial

from tqdm import tqdm

from mam import fetch
from mam.bench import baselines, common, metrics, sets
from mam.bench.gold import with_gold
from mam.bench.parts import digest
from mam.bench.scoring import declines, share
from mam.space import MOST_READ, Space
from mam.values import Slot, Turn

TOP = (1, 5, 10, 25, 50)
STAGES = ("not_kept", "not_read", "answered")
SECONDS = ("tell", "answer", "rank", "gold")
FEW = 20  # questions of each conversation, times --limit, in a limited run


def run(world: common.World, settings: common.Settings) -> dict:
    """Raises InputError when LoCoMo is missing or damaged."""
    talks = sets.locomo(settings.data)
    talks = talks[: settings.capped(len(talks))]
    done, answered, ranked = common.parts("locomo", world, settings), {"on": [], "off": []}, []
    minilm = baselines.MiniLM(fetch.encoder())
    work = [(talk, gate) for talk in talks for gate in answered]
    for talk, gate in tqdm(work, desc="locomo", unit="conversation", dynamic_ncols=True):
        asked = sets.evenly(talk.questions, settings.limit and FEW * settings.limit)
        name = f"{talk.id} {digest(talk, asked)}"
        if gate == "on":
            ranked += done(f"{name} ranked", partial(rankings, talk, asked, minilm))["questions"]
        answered[gate].append(done(f"{name} gate {gate}", partial(remembered, world, talk, asked, gate == "on")))
    return results(answered, ranked)


# ---- one conversation ------------------------------------------------------------------------------------------------


def rankings(talk: sets.Talk, asked: Sequence[sets.Asked], minilm: baselines.MiniLM) -> dict:
    """Places of the evidence of each question among all turns, by each ranking that knows no memory model."""
    turns = talk.turns
    texts = [f"{turn.speaker}: {turn.text}" for turn in turns]
    found = baselines.rankings(texts, [question.text for question in asked], minilm)
    return {
        "questions": [
            {name: places(question, [turns[i].id for i in order]) for name, order in orders.items()}
            for question, orders in zip(asked, found, strict=True)
        ]
    }


def places(question: sets.Asked, ranked: Iterable[str]) -> list[int | None]:
    """Where each evidence turn stands (0: best), None where it does not."""
    at = {turn: place for place, turn in enumerate(ranked)}
    return [at.get(turn) for turn in question.evidence]


def remembered(world: common.World, talk: sets.Talk, asked: Sequence[sets.Asked], gate: bool) -> dict:
    """Tell a conversation to an empty space, then ask."""
    clock = common.Clock()
    with world.space() as space:
        with clock("tell"), common.gate(world, gate):
            written = tell(space, talk)
        slots = {slot.id for slot in space.slots()}
        rows, evidence = [], []
        for question in tqdm(asked, desc=f"{talk.id}, gate {'on' if gate else 'off'}", leave=False, dynamic_ncols=True):
            with clock("answer"):
                turn = common.ask(space, question.text, temporary=True)
            with clock("rank"):
                ranks = _ranks(world, space, question, turn, written)
            rows.append(_row(question, turn, _stage(question, turn, written, slots)) | ranks)
            evidence.append(_answering(question, turn, written) if rows[-1]["stage"] == STAGES[-1] else [])
    with clock("gold"):
        rows = with_gold(world, rows, evidence, _score)
    kept = [bool(slots & set(written[id])) for question in asked for id in question.evidence]
    wrote = [bool(written[id]) for question in asked for id in question.evidence]
    return {
        "questions": rows,
        "turns": len(talk.turns),
        "slots": len(slots),
        "evidence": {"written": wrote, "active": kept},
        "seconds": clock.rounded(),
    }


def tell(space: Space, talk: sets.Talk) -> dict[str, list[str]]:
    """Every turn through the ordinary write path; the ids of the slots that each left, its duplicates' included."""
    written = {}
    with tqdm(total=len(talk.turns), desc=f"{talk.id}, listening", leave=False, dynamic_ncols=True) as bar:
        for number, session in enumerate(talk.sessions, 1):
            chat = space.session(f"session {number}")
            for turn in session:
                writes, _ = chat.observe(turn.text, speaker=turn.speaker, at=turn.at)
                written[turn.id] = [write.slot.id for write in writes]
                bar.update()
    return written


def _ranks(world: common.World, space: Space, question: sets.Asked, turn: Turn, written: dict[str, list[str]]) -> dict:
    """Places of the evidence as the turn ranked all turns, and as it would have if its second look went deeper."""
    others = first_look(world, space, turn.text)
    read = {"ranks": turn.reads, "ranks_deep": space.read(turn.text, MOST_READ).reads}
    return {
        name: places(question, said_in([*(one.slot for one in reads), *others], written))
        for name, reads in read.items()
    }


def first_look(world: common.World, space: Space, query: str) -> list[Slot]:
    """All active slots as the reader's first look ranks them."""
    if not len(space.index):
        return []
    hidden = world.memory.encode([query])[0]
    found = world.memory.reader.rank(query, hidden, space.index, len(space.index), datetime.now(UTC))
    return [slot for slot, _ in found]


def said_in(slots: Iterable[Slot], written: dict[str, list[str]]) -> list[str]:
    """The turns that left these slots, in their order."""
    left: dict[str, list[str]] = {}
    for turn, ids in written.items():
        for id in ids:
            left.setdefault(id, []).append(turn)
    return list(dict.fromkeys(turn for slot in slots for turn in left.get(slot.id, ())))


def _answering(question: sets.Asked, turn: Turn, written: dict[str, list[str]]) -> list[Slot]:
    """What the base was given of the evidence; nothing for a question that has no answer."""
    evidence = {slot for id in question.evidence for slot in written[id]}
    answers = question.category != metrics.ADVERSARIAL
    return [read.slot for read in turn.reads if answers and read.given and read.slot.id in evidence]


def _score(row: dict, reply: str) -> float:
    return metrics.locomo(row["category"], reply, row["answer"])


def _stage(question: sets.Asked, turn: Turn, written: dict[str, list[str]], active: set[str]) -> str:
    """Nothing is known to be missing for a question without evidence."""
    given = {read.slot.id for read in turn.reads if read.given}
    if not all(active & set(written[id]) for id in question.evidence):
        return "not_kept"
    return "answered" if all(given & set(written[id]) for id in question.evidence) else "not_read"


def _row(question: sets.Asked, turn: Turn, stage: str) -> dict:
    """The official metric knows one way of abstaining, so an abstention of the memory model is put into its words."""
    adversarial = question.category == metrics.ADVERSARIAL
    said = metrics.NOT_MENTIONED if adversarial and turn.abstained else turn.reply
    return {
        "question": question.text,
        "answer": question.answer,
        "reply": turn.reply,
        "category": question.category,
        "score": metrics.locomo(question.category, said, question.answer),
        "abstained": turn.abstained or declines(turn.reply),
        "stage": stage,
    }


# ---- all of them -----------------------------------------------------------------------------------------------------


def results(answered: dict[str, list[dict]], ranked: list[dict]) -> dict:
    """The figures with the gate on stand on top; F1, recall and losses in percent, abstentions as shares."""
    on, off = (_summary(answered[gate]) for gate in ("on", "off"))
    recall = {name: _recall(row[name] for row in ranked) for name in ("bm25", "minilm", "sum")}
    rows = [row for talk in answered["on"] for row in talk["questions"]]
    return {
        **{f"recall_at_{k}": on["recall"][f"at_{k}"] for k in TOP},
        **{key: on[key] for key in ("f1_1_4", "score_5", "abstained_5", "false_abstained_1_4")},
        "recall_deep": on["recall_deep"],
        "gate_on": on,
        "gate_off": off,
        "recall_without_memory": recall,
        "conversations": len(answered["on"]),
        "questions": {str(category): sum(row["category"] == category for row in rows) for category in range(1, 6)},
    }


def _summary(talks: list[dict]) -> dict:
    rows = [row for talk in talks for row in talk["questions"]]
    asked, adversarial = ([row for row in rows if (row["category"] == 5) is five] for five in (False, True))
    return {
        "f1_1_4": metrics.percent(row["score"] for row in asked),  # each question counts once: weighted by count
        "f1": {str(c): metrics.percent(row["score"] for row in asked if row["category"] == c) for c in range(1, 5)},
        "score_5": metrics.percent(row["score"] for row in adversarial),
        "abstained_5": share(row["abstained"] for row in adversarial),
        "false_abstained_1_4": share(row["abstained"] for row in asked),
        "recall": _recall(row["ranks"] for row in rows),
        "recall_1_4": _recall(row["ranks"] for row in asked),
        "recall_deep": _recall(row["ranks_deep"] for row in rows),
        **metrics.losses(asked, STAGES),
        "turns": sum(talk["turns"] for talk in talks),
        "slots": sum(talk["slots"] for talk in talks),
        "evidence_written": share(one for talk in talks for one in talk["evidence"]["written"]),
        "evidence_active": share(one for talk in talks for one in talk["evidence"]["active"]),
        "seconds": {part: round(sum(talk["seconds"][part] for talk in talks)) for part in SECONDS},
    }


def _recall(ranks: Iterable[list[int | None]]) -> dict[str, float | None]:
    ranks = list(ranks)
    return {f"at_{k}": metrics.recall_at(ranks, k) for k in TOP}
