"""Training of the generator of packs: a sentence and a word to ask with → a question and its answer, or none.

From the public question–answer sets: each question with the sentence that answers it (and the one that this leans on,
as in use), only such questions that stand alone. Where a sentence was asked about from all sides, as in QAMR, the words
that nobody asked with teach it to write none. Loss: mean cross-entropy of what it writes, nats. Which step is kept is
decided on training passages that are held out: questions that packs are measured on have no part in it.

    python -m mam pack generator --data DIR
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import torch

from mam.errors import InputError
from mam.packs.files import digest, save_tensors, used, write, write_json
from mam.packs.generators import ASKS, NOTHING, PRONOUN, SHIPPED, stands_alone, writing, written
from mam.packs.reflect import with_antecedent
from mam.packs.training import LOOKED, ROWS, Example, example, part
from mam.packs.values import Pair, Sentence
from mam.packs.weights import AdaptedLM
from mam.train.card import hardware
from mam.train.loop import Schedule, forecast, train
from mam.train.sets import Passage, passages

SEED, STEPS, EVERY, RATE = 0, 2400, 200, 1e-3
DENSE = 4  # questions about a passage of one sentence from which it counts as asked about from all sides
HELD_OUT = 50  # one passage of so many is not learned from
NONES = 0.2  # share of examples that teach to write none
SHARE = 1 / 3  # of the examples at most ask with one word: of the questions of the sets, two thirds ask what
LONGEST = 400  # characters of a text
CARD = """# Generator of mam

Writes a question and its answer for a sentence and a word to ask with (who, what, where, when, why, how), or that there
is none: what packs are made from. Low-rank adapters on {base} (Apache-2.0; fetched, not contained), bfloat16 in
safetensors; licence Apache-2.0. Made by `python -m mam pack generator`.

Trained on SQuADShifts, Reddit and Amazon parts (CC BY 4.0), QAMR, development part (MIT) and FairytaleQA, training part
(Apache-2.0): their questions that stand alone, each with the sentence that answers it. One passage of {held_out} is
held out; no question that packs are measured on has a part in it.

{date}: {seconds:.0f} s on {hardware}; seed {seed}, best step {step:.0f} of {steps}. On held-out passages the loss is
{loss:.3f} nats a token: of one sentence many questions can be asked.

English only. What it writes may be wrong: a pack keeps a pair only if the memory model, reading its source, agrees.
"""
_ASK = re.compile(r"\b(who|whom|whose|what|which|where|when|why|how)\b", re.I)
_SAME = {"whom": "who", "whose": "who", "which": "what"}
_BEFORE_SIGN = re.compile(r"\s+(?=[,.;:?!)'’])")


@dataclass(frozen=True)
class Lesson:
    text: str
    ask: str  # one of ASKS
    pair: Pair | None  # None: nothing can be asked so


def lessons(found: Sequence[Passage], seed: str, count: int) -> list[Lesson]:
    """At most `count` lessons, shuffled; those about nothing are a share of them."""
    by_ask: dict[str, list[Lesson]] = {ask: [] for ask in ASKS}
    none: list[Lesson] = []
    for passage in found:
        sentences = [Sentence(i, _BEFORE_SIGN.sub("", text)) for i, text in enumerate(passage.sentences)]
        asked: set[str] = set()
        for question, i, answer in passage.questions:
            word = _ASK.search(question)
            ask = word and _SAME.get(word.group().lower(), word.group().lower())
            asked.add(ask or "")
            text = " ".join(sentence.text for sentence in with_antecedent(sentences, i))
            if not ask or len(text) > LONGEST or not question.endswith("?") or PRONOUN.fullmatch(answer):
                continue
            if stands_alone(question):
                by_ask[ask].append(Lesson(text, ask, Pair(question, _BEFORE_SIGN.sub("", answer))))
        if len(sentences) == 1 and len(passage.questions) >= DENSE and len(sentences[0].text) <= LONGEST:
            none += [Lesson(sentences[0].text, ask, None) for ask in ASKS if ask not in asked]
    random, most = Random(seed), max(1, int(SHARE * count))
    some = [lesson for own in by_ask.values() for lesson in random.sample(own, min(len(own), most))]
    nones = random.sample(none, min(len(none), int(NONES * min(count, len(some)))))
    taken = random.sample(some, min(len(some), count - len(nones))) + nones
    return random.sample(taken, len(taken))


def examples(lm: AdaptedLM, taught: Sequence[Lesson]) -> list[Example]:
    def said(lesson: Lesson) -> str:
        return written(lesson.pair).removeprefix("Q: ") if lesson.pair else NOTHING

    return [example(lm, writing(lm, lesson.text, lesson.ask), said(lesson)) for lesson in taught]


def train_generator(
    data: Path, base: str, out: Path = SHIPPED, run: Path = Path("runs/generator"), steps: int = STEPS
) -> dict[str, float]:
    """Train it, resumable in the folder `run`, and save it to `out`; returns the figures of its best validation.

    Raises InputError when a data set is missing.
    """
    if steps < 1:
        raise InputError(f"--steps is {steps}; it must be at least 1.")
    lm = AdaptedLM(base)
    found = passages(data, "train")
    held_out = examples(lm, lessons(found[::HELD_OUT], "generator val", LOOKED))
    learned = [passage for i, passage in enumerate(found) if i % HELD_OUT]
    taught = examples(lm, lessons(learned, f"generator {SEED}", ROWS * steps))
    made = part(lm, "generator", "generator", taught, SEED, RATE, held_out)
    schedule = Schedule(steps, every=min(EVERY, steps))
    # not the number of steps: a run of more of them goes on
    of = {"base": lm.fingerprint, "set of data": digest([asdict(passage) for passage in found])}
    with used(f"the run in {run}"):
        print(forecast(made, schedule, run), flush=True)
        figures = train(made, schedule, run, of=of)
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in lm.tensors("generator").items()}
    sha256 = save_tensors(out / "adapter.safetensors", tensors)
    about = {"base": lm.fingerprint, "sha256": sha256, "steps": steps, "seed": SEED, "validation": figures}
    write_json(out / "generator.json", about)
    how = {"hardware": hardware(lm.base.device), "date": datetime.now(UTC).date(), "held_out": HELD_OUT, "seed": SEED}
    write(out / "README.md", CARD.format(base=base, steps=steps, **how, **figures))
    shutil.copyfile(run / "generator.csv", out / "generator.csv")
    print(json.dumps(figures, indent=2))
    return figures
