"""reading: whole documents as slots, questions about them; what is gained over a prompt, and what is lost where?

Documents are 40 consecutive passages of SQuADShifts' Wikipedia part and the stories of FairytaleQA's validation part,
each ingested into an empty memory like any file. The same frozen base answers six ways:

    memory           as any user would ask
    prompt_bm25      notes from the document found by BM25 in the prompt
    prompt_minilm    found by all-MiniLM-L6-v2
    prompt_sum       found by the sum of both, z-scored
    gold_prompt      what answers, and nothing else, in the prompt: what prompting can reach
    gold_slot        the slots that answer, and no others, through the integrator: what integrating can reach

Each prompt has what serves it best on training documents (SQuADShifts' Reddit part, FairytaleQA's training part),
searched at the beginning of the run: its form; the text as it was said or as the slots have it; notes of one sentence
or of three; how many of them; the best one first or last (see `search`). F1 and exact match are those of SQuAD.

SQuADShifts says at which character the answer stands, and gold is the slot there. FairytaleQA says in which sections,
and gold is every slot of them that holds an answer word for word; where none does, as is usual with implicit answers,
it is a guess: the slot that shares most words with answers and question. Its figures are therefore given for explicit
and implicit answers apart. Where a reply falls short, see `metrics.losses`: "not_kept" means that no slot holds the
place of the answer, "not_read" that none of gold was given to the base.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np
from tqdm import tqdm

from mam import fetch
from mam.bench import baselines, common, metrics, prompts, search, sets
from mam.bench.gold import from_slots
from mam.bench.parts import Parts, digest
from mam.bench.passages import Passages
from mam.bench.prompts import Choice
from mam.index import words
from mam.space import Space
from mam.values import Slot, Turn

RETRIEVED = ("prompt_bm25", "prompt_minilm", "prompt_sum")
WAYS = ("memory", *RETRIEVED, "gold_prompt", "gold_slot")
STAGES = ("not_kept", "not_read", "answered")
GOLD = 2  # slots at most that gold hands over: a word that half a story says ("the king") would bury what answers
TUNED = 2, 24  # training documents of each set, and questions of each of these, that prompts are chosen on
FORMS = 2  # forms that served one retrieval best, which the next one tries; the first one tries all
FEW = 10  # questions of each document, times --limit, in a limited run


def run(world: common.World, settings: common.Settings) -> dict:
    """Raises InputError when a set is missing or damaged."""
    documents = {
        "squadshifts_wiki": sets.squad(settings.data, "wiki"),
        "fairytale_val": sets.stories(settings.data, "val"),
    }
    training = [*sets.squad(settings.data, "reddit")[: TUNED[0]], *sets.stories(settings.data, "train")[: TUNED[0]]]
    each = settings.capped(TUNED[1])
    training = [replace(one, questions=tuple(sets.evenly(one.questions, each))) for one in training]
    minilm, done = baselines.MiniLM(fetch.encoder()), common.parts("reading", world, settings)
    choices, tried = chosen(scorer(world, training, minilm, done))
    work = [(name, document) for name, all in documents.items() for document in all[: settings.capped(len(all))]]
    answered: dict[str, list[dict]] = {name: [] for name in documents}
    for name, document in tqdm(work, desc="reading", unit="document", dynamic_ncols=True):
        asked = sets.evenly(document.questions, settings.limit and FEW * settings.limit)
        document = replace(document, questions=tuple(asked))
        part = partial(read, world, document, choices, minilm)
        answered[name].append(done(f"{name} {document.name} {digest(document, choices)}", part))
    return results(answered, choices, tried)


# ---- one document ----------------------------------------------------------------------------------------------------


def read(world: common.World, document: sets.Document, choices: dict[str, Choice], minilm: baselines.MiniLM) -> dict:
    """Ingest a document, ask its questions all six ways."""
    clock = common.Clock()
    with world.space() as space:
        with clock("ingest"):
            slots = ingest(space, document)
        gold = [gold_slots(question, slots) for question in document.questions]
        replies: dict[str, list[str]] = {}
        with clock("memory"):
            turns = [
                common.ask(space, question.text, temporary=True)
                for question in tqdm(document.questions, desc=document.name, leave=False, dynamic_ncols=True)
            ]
        replies["memory"] = [turn.reply for turn in turns]
        with clock("gold_slot"):
            pairs = zip(document.questions, gold, strict=True)
            replies["gold_slot"] = [from_slots(world, right[:GOLD], question.text) for question, right in pairs]
    passages = Passages(document, slots, minilm)
    for way, choice in choices.items():
        with clock(way):
            replies[way] = prompted(world, way, choice, document, passages, gold)
    rows = [
        {
            "question": question.text,
            "answers": question.answers,
            "kind": question.kind,
            "replies": {way: replies[way][i] for way in WAYS},
            "f1": {way: metrics.best(metrics.f1, replies[way][i], question.answers) for way in WAYS},
            "exact": {way: metrics.best(metrics.exact, replies[way][i], question.answers) for way in WAYS},
            "abstained": turns[i].abstained,
            "stage": stage(turns[i], gold[i]),
        }
        for i, question in enumerate(document.questions)
    ]
    return {"questions": rows, "slots": len(slots), "seconds": clock.rounded()}


def ingest(space: Space, document: sets.Document) -> list[Slot]:
    """The document through the ordinary way of files; its slots in the order of the text."""
    with common.temporary() as folder:
        path = folder / f"{document.name}.txt"
        path.write_text(document.text, encoding="utf-8")
        space.ingest(path)
    return sorted(space.slots(), key=lambda slot: slot.span)


def gold_slots(question: sets.Question, slots: Sequence[Slot]) -> list[Slot]:
    """The slots that answer, the likeliest first; see above. [] where no slot has the place of the answer."""
    if question.at is not None:
        return [slot for slot in slots if slot.span[0] <= question.at < slot.span[1]]
    first, last = question.within
    asked, answers = words(question.text), [words(answer) for answer in question.answers]

    def likeness(slot: Slot) -> tuple[bool, float]:
        """In its own sentence, not in one before that it leans on; then words of the answer, and of the question."""
        said = words(slot.said)
        held = max((len(said & answer) / len(answer) for answer in answers if answer), default=0.0)
        return metrics.holds(slot.said, question.answers), held + 0.5 * len(said & asked) / max(len(asked), 1)

    inside = sorted((slot for slot in slots if first <= slot.span[0] < last), key=likeness, reverse=True)
    return [slot for slot in inside if metrics.holds(slot.text, question.answers)] or inside[:1]


def prompted(
    world: common.World,
    way: str,
    choice: Choice,
    document: sets.Document,
    passages: Passages,
    gold: Sequence[Sequence[Slot]],
) -> list[str]:
    """Replies of the base to what is in its prompt: retrieved, or what answers."""
    if way in RETRIEVED:
        notes = passages.found(way, choice)
    else:
        pairs = zip(document.questions, gold, strict=True)
        notes = [passages.around(places(question, right), choice) for question, right in pairs]
    form = prompts.READING[choice.form]
    lists = [form(given, question.text) for given, question in zip(notes, document.questions, strict=True)]
    return baselines.answers(world.base, lists, common.MAX_TOKENS, best_first=not choice.best_last)


def places(question: sets.Question, gold: Sequence[Slot]) -> list[int]:
    """The characters of the document where the answer stands, as far as that is known."""
    return [slot.span[0] for slot in gold[:GOLD]] if question.at is None else [question.at]


def stage(turn: Turn, gold: Sequence[Slot]) -> str:
    """The first stage that failed. One of gold is enough: each of them says what was asked for."""
    if not gold:
        return "not_kept"
    given = {read.slot.id for read in turn.reads if read.given}
    return "answered" if given & {slot.id for slot in gold} else "not_read"


# ---- the best prompts ------------------------------------------------------------------------------------------------


def scorer(
    world: common.World, training: Sequence[sets.Document], minilm: baselines.MiniLM, done: Parts
) -> Callable[[str, Choice], float]:
    """F1 in percent that a way of prompting reaches on training documents; what was measured is kept."""

    @cache
    def examples() -> list[tuple]:
        found = []
        for document in tqdm(training, desc="prompts: documents", dynamic_ncols=True):
            with world.space() as space:
                slots = ingest(space, document)
            gold = [gold_slots(question, slots) for question in document.questions]
            found.append((document, Passages(document, slots, minilm), gold))
        return found

    def measured(way: str, choice: Choice) -> dict:
        f1s = []
        for document, passages, gold in examples():
            replies = prompted(world, way, choice, document, passages, gold)
            pairs = zip(replies, document.questions, strict=True)
            f1s += [metrics.best(metrics.f1, reply, question.answers) for reply, question in pairs]
        return {"f1": metrics.percent(f1s) or 0.0}

    known_as = digest(training)
    return lambda way, choice: done(f"{known_as} {way}: {choice}", partial(measured, way, choice))["f1"]


def chosen(score: Callable[[str, Choice], float]) -> tuple[dict[str, Choice], dict]:
    """For each way of prompting what serves it best, and the score of all that was tried."""
    found, forms = search.Search(score), list(prompts.READING)
    steps = search.each("form", forms), search.each("source", search.SOURCES), [{"unit": search.CHUNK}]
    choices = {"gold_prompt": found.best("gold_prompt", Choice(forms[0]), *steps)}
    for way in RETRIEVED:
        choices[way] = found.best(way, Choice(forms[0], search.FIRST), *search.retrieval(forms))
        forms = found.forms(way, FORMS)  # what suits one retrieval suits the next
    return choices, found.tried


# ---- all of them -----------------------------------------------------------------------------------------------------


def results(answered: dict[str, list[dict]], choices: dict[str, Choice], tried: dict) -> dict:
    """F1 and exact match in percent. The sets count alike in what stands on top, whatever their sizes."""
    by_set = {name: _summary(documents) for name, documents in answered.items()}
    f1 = {way: _mean([one["f1"][way] for one in by_set.values()]) for way in WAYS}
    exact = {way: _mean([one["exact"][way] for one in by_set.values()]) for way in WAYS}
    return {
        **{f"f1_{way}": value for way, value in f1.items()},
        **{f"exact_{way}": value for way, value in exact.items()},
        **_ratios(f1),
        **by_set,
        "prompts": {way: str(choice) for way, choice in choices.items()},
        "prompts_tried": tried,
    }


def _summary(documents: list[dict]) -> dict:
    rows = [row for document in documents for row in document["questions"]]
    f1 = {way: metrics.percent(row["f1"][way] for row in rows) for way in WAYS}
    kinds = sorted({row["kind"] for row in rows})
    return {
        "f1": f1,
        "exact": {way: metrics.percent(row["exact"][way] for row in rows) for way in WAYS},
        **_ratios(f1),
        "abstained": metrics.percent(row["abstained"] for row in rows),
        **metrics.losses([_fate(row) for row in rows], STAGES),
        "by_kind": {kind: _by_kind([row for row in rows if row["kind"] == kind]) for kind in kinds},
        "documents": len(documents),
        "questions": len(rows),
        "slots": sum(document["slots"] for document in documents),
        "seconds": {
            part: round(sum(document["seconds"][part] for document in documents)) for part in ("ingest", *WAYS)
        },
    }


def _by_kind(rows: list[dict]) -> dict:
    f1 = {way: metrics.percent(row["f1"][way] for row in rows) for way in WAYS}
    return {"f1": f1, "questions": len(rows), **metrics.losses([_fate(row) for row in rows], STAGES)}


def _fate(row: dict) -> dict:
    """For `metrics.losses`."""
    f1 = row["f1"]
    return {
        "score": f1["memory"],
        "stage": row["stage"],
        "gold_prompt": f1["gold_prompt"],
        "gold_slots": f1["gold_slot"],
    }


def _ratios(f1: dict[str, float | None]) -> dict[str, float | None]:
    """F1 with memory against the best retrieval prompt, and against gold slots."""
    best = max((f1[way] or 0.0 for way in RETRIEVED), default=0.0)
    over = {"ratio_to_prompt": best, "ratio_to_gold": f1["gold_slot"]}
    return {name: round((f1["memory"] or 0.0) / value, 3) if value else None for name, value in over.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 2) if known else None
