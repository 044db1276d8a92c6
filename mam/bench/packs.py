"""packs: FairytaleQA's validation stories in weights, against the same stories as slots and in prompts.

One pack grows from 1 to 5 to 20 stories, a shard each; the questions are people's, never trained on, and all answers
are the same frozen base's, over all stories at once:

    pack             closed book: the memory LM answers, the base phrases        pack_alone    in the memory LM's words
    base             closed book, without anything, asked in the form that serves it best
    slots            the stories ingested into a memory
    pack_plus_slots  the same memory with the pack mounted
    prompt_bm25      sentences found by BM25 in all stories, in the prompt
    gold             the sections with the answer, and no others, in the prompt

Forms of prompts are chosen on training stories. On some of the questions the protocol of stages against the single
step; and, in the memory LM's words, one adapter merged of all shards (linear, TIES, DARE) against the shards. Seconds
of an answer at each size. Deletion: of two stories in one shard one is deleted; `deleted_f1` is the F1 on its questions
then, `never_f1` that of a shard that never had it, for every seed. F1 is that of SQuAD, in percent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from mam.bench import baselines, common, metrics, prompts, reading, search, sets
from mam.bench.parts import Parts, digest
from mam.bench.scoring import spread
from mam.errors import InputError
from mam.packs.pack import Pack
from mam.packs.weights import METHODS
from mam.space import Space
from mam.values import Slot

SIZES = (1, 5, 20)  # stories
WAYS = ("pack", "pack_alone", "base", "slots", "pack_plus_slots", "prompt_bm25", "gold")
STAGED = 2  # questions of each story that are asked in stages, too
MERGED = 6  # and of merged shards
TIMED = 20  # answers timed at each size
SEEDS = 2  # of deletion
WORDS = 2_000  # of a story that building is stated for
TRAINING = 8, 8  # stories, and questions of each, that prompts are chosen on


def run(world: common.World, settings: common.Settings) -> dict:
    """Raises InputError when a set is missing or damaged, WeightsError without a trained generator."""
    stories = sets.stories(settings.data, "val")[: settings.capped(SIZES[-1])]
    training = sets.stories(settings.data, "train")[: settings.capped(TRAINING[0])]
    if len(stories) < 2:
        raise InputError("A deletion takes two stories: give --limit 2 or more.")
    done = common.parts("packs", world, settings)
    tuned = done(f"prompts {digest(training)}", lambda: _tuned(world, training, settings.capped(TRAINING[1])))
    choices = {way: prompts.Choice(**choice) for way, choice in tuned["choices"].items()}
    with _folder(done) as folder, world.open(folder / "data") as space:
        paths = _written(folder / "text", stories)
        seconds, sizes = {}, sorted({min(size, len(stories)) for size in SIZES})
        for size in sizes:
            pack = space.pack("stories", *paths[:size], base=world.base.id, shard=1, seed=settings.seed)
            seconds[str(size)] = done(f"seconds {digest(stories[:size])}", partial(_seconds, pack, stories[:size]))
        for path in paths:
            space.ingest(path)  # what is there already is left out
        rows = []
        for story in tqdm(stories, desc="packs", unit="story", dynamic_ncols=True):
            part = partial(_asked, world, space, pack, story, choices)
            rows += done(f"{story.name} {digest(story)}", part)["questions"]
        merging = done(f"merging {digest(stories)}", partial(_merged, pack, stories))
        deletion = [_deleted(world, space, done, stories, settings.seed + number) for number in range(SEEDS)]
        building = done(f"building {digest(stories)}", partial(_building, pack))
        return _results(rows, seconds, deletion, building, choices) | {"merging": merging}


def _tuned(world: common.World, training: Sequence[sets.Document], each: int) -> dict:
    """The best form of each way of prompting, and the best sentences, by F1 on questions of training stories.

    As they are asked then: sentences are found among those of all stories, sections are whole.
    """
    asked = [(story, question) for story in training for question in sets.evenly(story.questions, each)]
    questions = [question for _, question in asked]
    sections = [_section(story, question) for story, question in asked]
    with world.space() as space:
        for story in training:
            reading.ingest(space, story)
        slots = space.slots()

    def score(way: str, choice: prompts.Choice) -> float:
        notes = {"base": [()] * len(questions), "gold": sections}.get(way) or _found(slots, questions, choice)
        form = (prompts.CLOSED if way == "base" else prompts.READING)[choice.form]
        lists = [form(given, question.text) for given, question in zip(notes, questions, strict=True)]
        return _percent(baselines.answers(world.base, lists, common.MAX_TOKENS), questions) or 0.0

    found, forms = search.Search(score), list(prompts.READING)
    retrieval = search.retrieval(forms, chunks=False)
    choices = {
        "base": found.best("base", prompts.Choice("bare"), search.each("form", prompts.CLOSED)),
        "gold": found.best("gold", prompts.Choice(forms[0]), search.each("form", forms)),
        "prompt_bm25": found.best("prompt_bm25", prompts.Choice(forms[0], search.FIRST), *retrieval),
    }
    return {"choices": {way: asdict(choice) for way, choice in choices.items()}, "tried": found.tried}


def _found(slots: Sequence[Slot], questions: Sequence[sets.Question], choice: prompts.Choice) -> list[list[str]]:
    """For each question the sentences that BM25 finds, as said or as their slots have them."""
    texts, asked = [getattr(slot, choice.source) for slot in slots], [question.text for question in questions]
    best, step = baselines.retrieved("prompt_bm25", texts, asked, None, choice.notes), -1 if choice.best_last else 1
    return [[texts[i] for i in each[::step]] for each in best]


def _section(story: sets.Document, question: sets.Question) -> list[str]:
    """The sections with the answer, and no others."""
    return [story.text[slice(*question.within)].strip()]


# ---- the stories -----------------------------------------------------------------------------------------------------


@contextmanager
def _folder(done: Parts) -> Iterator[Path]:
    """Where packs and memory are: beside the parts of the run, so that hours of training are not lost with it."""
    if done.folder is None:
        with common.temporary() as folder:
            yield folder
        return
    done.folder.mkdir(parents=True, exist_ok=True)
    yield done.folder


def _written(folder: Path, stories: Sequence[sets.Document]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{story.name}.txt" for story in stories]
    for path, story in zip(paths, stories, strict=True):
        path.write_text(story.text, encoding="utf-8")
    return paths


def _asked(
    world: common.World, space: Space, pack: Pack, story: sets.Document, choices: dict[str, prompts.Choice]
) -> dict:
    """The questions of a story in all ways."""
    asked = [question.text for question in story.questions]
    slots = sorted(space.slots(), key=lambda slot: (slot.document, slot.span))
    notes = _found(slots, story.questions, choices["prompt_bm25"])
    sections = [_section(story, question) for question in story.questions]
    bm25, gold = (prompts.READING[choices[way].form] for way in ("prompt_bm25", "gold"))
    alone = prompts.CLOSED[choices["base"].form]
    answers = partial(baselines.answers, world.base, max_tokens=common.MAX_TOKENS)
    ask = partial(pack.ask, max_tokens=common.MAX_TOKENS)
    replies = {
        "pack": [ask(question).text for question in asked],
        "pack_alone": [ask(question, phrased=False).text for question in asked],
        "base": answers([alone((), question) for question in asked]),
        "slots": [common.ask(space, question, temporary=True).reply for question in asked],
        "pack_plus_slots": [_mounted(space, pack, question) for question in asked],
        "prompt_bm25": answers([bm25(given, question) for given, question in zip(notes, asked, strict=True)]),
        "gold": answers([gold(given, question) for given, question in zip(sections, asked, strict=True)]),
    }
    staged = {question: ask(question, in_stages=True).text for question in sets.evenly(asked, STAGED)}
    rows = []
    for i, question in enumerate(story.questions):
        said = {way: replies[way][i] for way in WAYS}
        said |= {"pack_staged": staged[question.text]} if question.text in staged else {}
        f1 = {way: metrics.best(metrics.f1, reply, question.answers) for way, reply in said.items()}
        rows.append(
            {"question": question.text, "answers": question.answers, "kind": question.kind, "replies": said, "f1": f1}
        )
    return {"questions": rows}


def _mounted(space: Space, pack: Pack, question: str) -> str:
    chat = space.session(temporary=True)
    chat.mount(pack.name)
    return chat.send(question, max_tokens=common.MAX_TOKENS, temperature=0.0).reply


def _merged(pack: Pack, stories: Sequence[sets.Document]) -> dict:
    """F1 of the shards and of each way of merging them, on the same questions; None for what cannot be merged."""
    asked = [question for story in stories for question in sets.evenly(story.questions, MERGED)]
    found = {"questions": len(asked), "shards": _f1(pack, asked)}
    for method in METHODS:
        if len(pack.shards()) < 2:
            found[method] = None
            continue
        pack.merge(method)
        found[method] = _f1(pack, asked, merged=True)
    return found


# ---- time, and deletion ----------------------------------------------------------------------------------------------


def _seconds(pack: Pack, stories: Sequence[sets.Document]) -> dict:
    """Seconds of an answer, whichever story it is about; the shards were asked before, as in a conversation.

    Of questions that it answers: to decline takes less, and a pack of more stories may decline more.
    """
    asked = sets.evenly([question.text for story in stories for question in story.questions], TIMED)
    for question in asked:
        pack.recall(question)
    answers = [pack.ask(question, max_tokens=common.MAX_TOKENS) for question in asked]
    known = [answer.seconds for answer in answers if answer.known]
    counts = {"answered": len(known), "asked": len(asked), "shards": len(pack.shards())}
    return {"answer": spread(known) if known else {}} | counts


def _deleted(world: common.World, space: Space, done: Parts, stories: Sequence[sets.Document], seed: int) -> dict:
    """The two shortest stories in one shard, without the second, and a shard of the first alone."""
    first, second = sorted(sorted(stories, key=lambda story: len(story.text))[:2], key=lambda story: story.name)

    paths = [space.store.database.folder.parent / "text" / f"{story.name}.txt" for story in (first, second)]
    how = {"base": world.base.id, "shard": 2, "seed": seed}

    def before() -> dict:
        return {"before_f1": _f1(space.pack(f"both {seed}", *paths, **how), second.questions)}

    def after() -> dict:
        both = space.open_pack(f"both {seed}")
        if len(both.documents()) == 2:
            both.delete(paths[1].name)
        else:  # an interrupted run has deleted it already
            both.build()
        never = space.pack(f"never {seed}", paths[0], **how)
        one, other = both.store.adapter("000"), never.store.adapter("000")
        return {
            "seed": seed,
            "deleted_f1": _f1(both, second.questions),
            "never_f1": _f1(never, second.questions),
            "identical": float(all(torch.equal(one[name], other[name]) for name in one)),
        }

    each = f"{digest(first, second)} {seed}"
    return done(f"before deletion {each}", before) | done(f"deletion {each}", after)


def _f1(pack: Pack, questions: Sequence[sets.Question], merged: bool = False) -> float:
    """In the memory LM's words."""
    replies = [pack.ask(question.text, phrased=False, merged=merged).text for question in questions]
    return _percent(replies, questions)


def _percent(replies: Sequence[str], questions: Sequence[sets.Question]) -> float | None:
    pairs = zip(replies, questions, strict=True)
    return metrics.percent(metrics.best(metrics.f1, reply, question.answers) for reply, question in pairs)


def _building(pack: Pack) -> dict:
    """Minutes that a story took to build, for 2,000 words, and what of a shard's reflections came back right."""
    words = {document.name: document.words for document in pack.documents()}
    minutes = [
        sum(shard.seconds.values()) / 60 / sum(words[name] for name in shard.documents) * WORDS
        for shard in pack.shards()
    ]  # fmt: skip
    right = [shard.figures["right"] for shard in pack.shards()]
    declined = [shard.figures["declined"] for shard in pack.shards() if "declined" in shard.figures]
    return {
        "minutes_for_2000_words": spread(minutes),
        "reflections": sum(shard.reflections for shard in pack.shards()),
        "words": sum(words.values()),
        "reflections_right": metrics.percent(right),
        "unanswerable_declined": metrics.percent(declined),
    }


# ---- all of it -------------------------------------------------------------------------------------------------------


def _results(rows: list[dict], seconds: dict, deletion: list[dict], building: dict, choices: dict) -> dict:
    f1 = {way: metrics.percent(row["f1"][way] for row in rows) for way in WAYS}
    both = [row["f1"] for row in rows if "pack_staged" in row["f1"]]
    kinds = sorted({row["kind"] for row in rows})
    by_kind = {
        kind: {way: metrics.percent(row["f1"][way] for row in rows if row["kind"] == kind) for way in WAYS}
        for kind in kinds
    }
    first, last = (seconds[size]["answer"].get("median") for size in (min(seconds, key=int), max(seconds, key=int)))
    return {
        **f1,
        "pack_over_base": round(f1["pack"] / f1["base"], 3) if f1["base"] else None,
        "deleted_f1": metrics.percent(one["deleted_f1"] / 100 for one in deletion),
        "never_f1": metrics.percent(one["never_f1"] / 100 for one in deletion),
        "seconds": seconds,
        "seconds_growth": round(last / first, 3) if first and last else None,
        "building": building,
        "stages": {
            "questions": len(both),
            "single_step": metrics.percent(one["pack"] for one in both),
            "in_stages": metrics.percent(one["pack_staged"] for one in both),
        },
        "f1_by_kind": by_kind,
        "deletion": deletion,
        "questions": len(rows),
        "prompts": {way: str(choice) for way, choice in choices.items()},
    }
