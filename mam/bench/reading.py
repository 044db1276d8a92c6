"""reading: whole documents as slots, questions about them; what is gained over a prompt, and what is lost where?

Documents are 40 consecutive passages of SQuADShifts' Wikipedia part and the stories of FairytaleQA's validation part,
each ingested into an empty memory like any file. The same frozen base answers five ways:

    memory           as any user would ask
    prompt_bm25      sentences of the document found by BM25 in the prompt
    prompt_minilm    found by all-MiniLM-L6-v2
    gold_prompt      the sentence with the answer, and no other, in the prompt: what prompting can reach
    gold_slot        the slot with the answer, and no other, through the integrator: what integrating can reach

Each prompt has the form, and each retrieval the number of sentences, that serves it best on training documents
(SQuADShifts' Reddit part, FairytaleQA's training part): they are chosen at the beginning of the run. F1 and exact
match are those of SQuAD. SQuADShifts says at which character the answer stands, and gold is the slot there; FairytaleQA
says in which section, and gold is the slot of it that shares most words with answer and question. Where a reply falls
short, see `metrics.losses`: here "not_kept" means that no slot holds the place of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

import numpy as np
from tqdm import tqdm

from mam import fetch
from mam.bench import baselines, common, metrics, prompts, sets
from mam.bench.parts import digest
from mam.index import words
from mam.prompt import compose
from mam.space import Space
from mam.values import Read, Slot, Turn

RETRIEVED = ("prompt_bm25", "prompt_minilm")
WAYS = ("memory", *RETRIEVED, "gold_prompt", "gold_slot")
STAGES = ("not_kept", "not_read", "answered")
COUNTS = (1, 3, 5, 8)  # sentences in a retrieval prompt
TUNED = 2, 24  # training documents of each set, and questions of each of these, that prompts are chosen on
FEW = 10  # questions of each document, times --limit, in a limited run


def run(world: common.World, settings: common.Settings) -> dict:
    """Raises InputError when a set is missing or damaged."""
    documents = {
        "squadshifts_wiki": sets.squad(settings.data, "wiki"),
        "fairytale_val": sets.stories(settings.data, "val"),
    }
    training = [*sets.squad(settings.data, "reddit")[: TUNED[0]], *sets.stories(settings.data, "train")[: TUNED[0]]]
    minilm, done = baselines.MiniLM(fetch.encoder()), common.parts("reading", world, settings)
    each = settings.capped(TUNED[1])
    tuned = done(f"prompts {digest(training)}", lambda: chosen(world, training, each, minilm))
    choices = {way: prompts.Choice(**choice) for way, choice in tuned["choices"].items()}
    work = [(name, document) for name, all in documents.items() for document in all[: settings.capped(len(all))]]
    answered: dict[str, list[dict]] = {name: [] for name in documents}
    for name, document in tqdm(work, desc="reading", unit="document", dynamic_ncols=True):
        asked = sets.evenly(document.questions, settings.limit and FEW * settings.limit)
        document = replace(document, questions=tuple(asked))
        part = partial(read, world, document, choices, minilm)
        answered[name].append(done(f"{name} {document.name} {digest(document)}", part))
    return results(answered, tuned)


# ---- one document ----------------------------------------------------------------------------------------------------


def read(
    world: common.World, document: sets.Document, choices: dict[str, prompts.Choice], minilm: baselines.MiniLM
) -> dict:
    """Ingest a document, ask its questions all five ways."""
    clock = common.Clock()
    with world.space() as space:
        with clock("ingest"):
            slots = ingest(space, document)
        gold = [gold_slot(question, slots) for question in document.questions]
        replies: dict[str, list[str]] = {}
        with clock("memory"):
            turns = [
                common.ask(space, question.text, temporary=True)
                for question in tqdm(document.questions, desc=document.name, leave=False, dynamic_ncols=True)
            ]
        replies["memory"] = [turn.reply for turn in turns]
        with clock("gold_slot"):
            pairs = zip(document.questions, gold, strict=True)
            replies["gold_slot"] = [
                from_slots(world, [slot] if slot else [], question.text) for question, slot in pairs
            ]
    for way, choice in choices.items():
        with clock(way):
            replies[way] = prompted(world, way, choice, document.questions, slots, gold, minilm)
    rows = [
        {
            "question": question.text,
            "answers": question.answers,
            "kind": question.kind,
            "replies": {way: replies[way][i] for way in WAYS},
            "f1": {way: metrics.best(metrics.f1, replies[way][i], question.answers) for way in WAYS},
            "exact": {way: metrics.best(metrics.exact, replies[way][i], question.answers) for way in WAYS},
            "abstained": turns[i].abstained,
            "stage": stage(question, turns[i], gold[i]),
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


def gold_slot(question: sets.Question, slots: Sequence[Slot]) -> Slot | None:
    """The slot that holds the answer; None if there is none."""
    if question.at is not None:
        return next((slot for slot in slots if slot.span[0] <= question.at < slot.span[1]), None)
    first, last = question.within
    inside = [slot for slot in slots if first <= slot.span[0] < last]
    asked, answers = words(question.text), [words(answer) for answer in question.answers]

    def likeness(slot: Slot) -> float:
        """Of the answer first, then of the question."""
        said = words(slot.said)
        held = max((len(said & answer) / len(answer) for answer in answers if answer), default=0.0)
        return held + 0.5 * len(said & asked) / max(len(asked), 1)

    return max(inside, key=likeness, default=None)


def from_slots(world: common.World, slots: Sequence[Slot], question: str) -> str:
    """What the base says when it is given these slots at equal weights, whatever the reader thinks."""
    engine = world.engine
    with engine.lock:
        memory = engine.integrator.prepare([Read(slot, 1 / len(slots)) for slot in slots]) if slots else None
        prompt = compose(engine.base, [], question, [], memory.start if memory else 0, common.MAX_TOKENS).prompt
        ids = list(engine.base.generate(prompt, max_tokens=common.MAX_TOKENS, memory=memory))
        return engine.base.decode(ids).strip()


def prompted(
    world: common.World,
    way: str,
    choice: prompts.Choice,
    questions: Sequence[sets.Question],
    slots: Sequence[Slot],
    gold: Sequence[Slot | None],
    minilm: baselines.MiniLM,
) -> list[str]:
    """Replies of the base to sentences in its prompt: those retrieved, or the gold one."""
    asked, texts = [question.text for question in questions], [slot.said for slot in slots]
    if way in RETRIEVED:
        found = baselines.retrieved(way, texts, asked, minilm, choice.notes)
        notes = [[texts[i] for i in best] for best in found]
    else:
        notes = [[slot.said] if slot else [] for slot in gold]
    form = prompts.READING[choice.form]
    lists = [form(given, question) for given, question in zip(notes, asked, strict=True)]
    return baselines.answers(world.base, lists, common.MAX_TOKENS)


def stage(question: sets.Question, turn: Turn, gold: Slot | None) -> str:
    """The first stage that failed. Another slot that holds the answer word for word is as good as the gold one."""
    if gold is None:
        return "not_kept"
    given = [read.slot for read in turn.reads if read.given]
    found = any(slot.id == gold.id or metrics.holds(slot.text, question.answers) for slot in given)
    return "answered" if found else "not_read"


# ---- the best prompts ------------------------------------------------------------------------------------------------


def chosen(world: common.World, training: Sequence[sets.Document], each: int, minilm: baselines.MiniLM) -> dict:
    """For each way of prompting its best form, then its best number of sentences, by F1 on training documents."""
    examples = []
    for document in training:
        document = replace(document, questions=tuple(sets.evenly(document.questions, each)))
        with world.space() as space:
            slots = ingest(space, document)
        examples.append((document, slots, [gold_slot(question, slots) for question in document.questions]))
    tried: dict[str, dict[str, float]] = {}

    def score(way: str, choice: prompts.Choice) -> float:
        f1s = []
        for document, slots, gold in examples:
            replies = prompted(world, way, choice, document.questions, slots, gold, minilm)
            pairs = zip(replies, document.questions, strict=True)
            f1s += [metrics.best(metrics.f1, reply, question.answers) for reply, question in pairs]
        found = metrics.percent(f1s) or 0.0
        tried.setdefault(way, {})[str(choice)] = found
        return found

    def best(way: str, choices: Sequence[prompts.Choice]) -> prompts.Choice:
        scored = [replace(choice, score=score(way, choice)) for choice in tqdm(choices, desc=f"prompts: {way}")]
        return max(scored, key=lambda choice: choice.score)

    choices = {"gold_prompt": best("gold_prompt", [prompts.Choice(form) for form in prompts.READING])}
    for way in RETRIEVED:
        first = best(way, [prompts.Choice(form, 3) for form in prompts.READING])
        others = best(way, [prompts.Choice(first.form, count) for count in COUNTS if count != first.notes])
        choices[way] = max(first, others, key=lambda choice: choice.score)
    return {"choices": {way: asdict(choice) for way, choice in choices.items()}, "tried": tried}


# ---- all of them -----------------------------------------------------------------------------------------------------


def results(answered: dict[str, list[dict]], tuned: dict) -> dict:
    """F1 and exact match in percent. The sets count alike in what stands on top, whatever their sizes."""
    by_set = {name: _summary(documents) for name, documents in answered.items()}
    f1 = {way: _mean([one["f1"][way] for one in by_set.values()]) for way in WAYS}
    exact = {way: _mean([one["exact"][way] for one in by_set.values()]) for way in WAYS}
    return {
        **{f"f1_{way}": value for way, value in f1.items()},
        **{f"exact_{way}": value for way, value in exact.items()},
        **_ratios(f1),
        **by_set,
        "prompts": {way: str(prompts.Choice(**choice)) for way, choice in tuned["choices"].items()},
        "prompts_tried": tuned["tried"],
    }


def _summary(documents: list[dict]) -> dict:
    rows = [row for document in documents for row in document["questions"]]
    f1 = {way: metrics.percent(row["f1"][way] for row in rows) for way in WAYS}
    kinds = sorted({row["kind"] for row in rows})
    return {
        "f1": f1,
        "exact": {way: metrics.percent(row["exact"][way] for row in rows) for way in WAYS},
        **_ratios(f1),
        "f1_by_kind": {
            kind: {way: metrics.percent(row["f1"][way] for row in rows if row["kind"] == kind) for way in WAYS}
            for kind in kinds
        },
        "abstained": metrics.percent(row["abstained"] for row in rows),
        **metrics.losses([_fate(row) for row in rows], STAGES),
        "documents": len(documents),
        "questions": len(rows),
        "slots": sum(document["slots"] for document in documents),
        "seconds": {
            part: round(sum(document["seconds"][part] for document in documents)) for part in ("ingest", *WAYS)
        },
    }


def _fate(row: dict) -> dict:
    """For `metrics.losses`: what the base can say of the answer is the better of what it says from slot and prompt."""
    gold = max(row["f1"]["gold_prompt"], row["f1"]["gold_slot"])
    return {"score": row["f1"]["memory"], "stage": row["stage"], "gold_prompt": gold}


def _ratios(f1: dict[str, float | None]) -> dict[str, float | None]:
    """F1 with memory against the better retrieval prompt, and against the gold slot."""
    best = max((f1[way] or 0.0 for way in RETRIEVED), default=0.0)
    over = {"ratio_to_prompt": best, "ratio_to_gold": f1["gold_slot"]}
    return {name: round((f1["memory"] or 0.0) / value, 3) if value else None for name, value in over.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 2) if known else None
