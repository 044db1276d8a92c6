"""Who writes reflections: a generator turns texts into questions with answers.

Two kinds behind one interface: `Prompted`, any base or endpoint by prompts, and `Trained`, the offline default,
low-rank adapters on the default base that write a question for a sentence, with rules for the rest. Knows prompts and
texts; does not know documents, shards or what is kept of what it writes (see `reflect`). Everything is greedy: the same
text gets the same pairs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from mam import base as bases
from mam.errors import WeightsError
from mam.packs.files import load_tensors
from mam.packs.values import Pair
from mam.packs.weights import AdaptedLM

if TYPE_CHECKING:
    from mam.base import Base
    from mam.endpoint import Endpoint

SHIPPED = Path(__file__).parent.parent.parent / "assets" / "generator"
TRAINED = "trained"  # the id of the default
ASKS = ("who", "what", "where", "when", "why", "how")  # the trained generator is asked for one of each
NOTHING = "none"  # what it writes where a text has no answer to such a question
LONGEST_PAIR = 64  # tokens
GAP = "___"

PRONOUN = re.compile(r"\b(?:he|she|it|they|him|her|them|his|hers|its|their|theirs|this|these|those)\b", re.I)
SUBJECT = re.compile(r"\b(?:he|she|it|they)\b", re.I)
NAME = re.compile(r"\b[A-Z][\w'’-]*[a-z](?:\s+(?:of\s+(?:the\s+)?)?[A-Z][\w'’-]*[a-z])*\b")
_PAIR = re.compile(r"Q(?:uestion)?\s*:\s*(?P<q>[^\n]+?)\s*\n+\s*A(?:nswer)?\s*:\s*(?P<a>[^\n]+)", re.I)


class Generator(Protocol):
    """`text` is always all that may be used: the sentences that the pairs come from, and nothing else."""

    id: str

    def facts(self, text: str) -> list[Pair]:
        """Questions that the text answers: direct ones (who, what, where, when) and indirect ones (why, how)."""

    def combine(self, text: str, first: Pair, second: Pair) -> Pair | None:
        """One question that takes both facts to answer."""

    def repair(self, text: str, pair: Pair) -> Pair | None:
        """The same pair, understandable without the text; None if it cannot be made so."""

    def surface(self, text: str, entity: str) -> Pair | None:
        """A question that leads to the entity: its answer."""


class Rules:
    """What can be done without a language model, and by the trained generator is."""

    def combine(self, text: str, first: Pair, second: Pair) -> Pair | None:
        """Facts that answer the same question are listed, facts with the same answer ask for it twice over."""
        if plain(first.question) == plain(second.question):
            return Pair(first.question, f"{first.answer} and {second.answer}")
        if plain(first.answer) == plain(second.answer):
            head, (word, blank, rest) = first.question.rstrip("? "), second.question.partition(" ")
            word = word.lower() if word.lower() in ENGLISH_STOP_WORDS else word
            return Pair(f"{head}, and {word}{blank}{rest}", first.answer)
        return None

    def repair(self, text: str, pair: Pair) -> Pair | None:
        """A pronoun as subject becomes the first name of the nearest sentence that has one: mostly its subject."""
        *before, _ = re.split(r"(?<=[.!?])\s+", text)
        named = next((names for sentence in reversed(before) if (names := names_in(sentence))), [])
        found = SUBJECT.search(pair.question)
        if not found or not named or named[0] in pair.answer:
            return None
        question = pair.question[: found.start()] + named[0] + pair.question[found.end() :]
        return Pair(question, pair.answer) if stands_alone(question) else None

    def surface(self, text: str, entity: str) -> Pair | None:
        """The text as a question if the entity begins it, else with a gap: no model that could get it wrong."""
        if text.startswith(f"{entity} ") and entity not in (rest := text.removeprefix(entity)):
            return Pair(f"Who or what{rest.rstrip('.!')}?", entity)
        gapped, count = re.subn(rf"\b{re.escape(entity)}\b", GAP, text)
        return Pair(f'Who or what is missing here: "{gapped}"', entity) if count else None


class Trained(Rules):
    """The default: adapters trained by `mam.train.generator`, on an LM that packs train their own adapters on."""

    def __init__(self, lm: AdaptedLM, folder: Path = SHIPPED):
        """Raises WeightsError when it is missing, damaged or made for another LM."""
        about = folder / "generator.json"
        if not about.is_file():
            raise WeightsError(
                f"There is no trained generator in {folder}; train one with python -m mam pack generator --data DIR,"
                " or name a model to write instead with --generator."
            )
        try:
            settings = json.loads(about.read_text(encoding="utf-8"))
            made_for, sha256 = settings["base"], settings["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"{about} is damaged; install mam again, or train the generator again.") from error
        if made_for != lm.fingerprint:
            raise WeightsError(f"The trained generator was not made for {lm.id}; name another with --generator.")
        self.id, self._lm, self._adapter = f"{TRAINED} {sha256[:16]}", lm, f"generator-{sha256[:16]}"
        lm.load(self._adapter, load_tensors(folder / "adapter.safetensors", sha256))

    def facts(self, text: str) -> list[Pair]:
        prompts = [writing(self._lm, text, ask) for ask in ASKS]
        if not self._lm.holds(self._adapter):
            raise WeightsError("The generator is not loaded any more; start again.")
        with self._lm.using(self._adapter):
            return [pair for said in self._lm.complete(prompts, LONGEST_PAIR) if (pair := parsed(said.text))]


class Prompted:
    """Any base or endpoint, asked in words."""

    TASKS = {
        "facts": "Write questions that this text answers, as many as it has facts: who, what, where, when, and also"
        " why and how. Each must be understandable without the text: name who is meant. Keep the answers short.",
        "combine": "Write one question whose answer takes both of these facts, and the answer.\n{}",
        "repair": "Write this question again so that it is understandable without the text: name who or what is meant"
        " instead of writing he, she, it or they. Keep the answer.\n{}",
        "surface": 'Write one question about this text whose answer is "{}". Do not write that name in the question.',
    }  # fmt: skip
    FORM = "Write nothing but lines like these:\nQ: the question\nA: the answer"

    def __init__(self, base: Base | Endpoint, max_tokens: int = 512):
        self.id, self._base, self._max = f"prompted {base.id}", base, max_tokens

    def facts(self, text: str) -> list[Pair]:
        return self._asked("facts", text, "")

    def combine(self, text: str, first: Pair, second: Pair) -> Pair | None:
        return next(iter(self._asked("combine", text, "\n".join(map(written, (first, second))))), None)

    def repair(self, text: str, pair: Pair) -> Pair | None:
        return next(iter(self._asked("repair", text, written(pair))), None)

    def surface(self, text: str, entity: str) -> Pair | None:
        found = next(iter(self._asked("surface", text, entity)), None)
        return found and Pair(found.question, entity) if found and entity not in found.question else None

    def _asked(self, task: str, text: str, about: str) -> list[Pair]:
        words = f"Text: {text}\n\n{self.TASKS[task].format(about)}\n{self.FORM}"
        prompt = self._base.prompt([{"role": "user", "content": words}])
        said = "".join(self._base.speech(self._base.generate(prompt, max_tokens=self._max)))
        return [Pair(m["q"].strip(), m["a"].strip()) for m in _PAIR.finditer(said)]


def open_generator(name: str, lm: AdaptedLM, device: str = "auto") -> Generator:
    """The generator of this name: "trained", or the id of any base or endpoint. Raises WeightsError, InputError."""
    if name == TRAINED:
        return Trained(lm)
    if name.startswith(bases.ON_SERVER):
        from mam.endpoint import Endpoint  # takes a while to import, and few need it

        return Prompted(Endpoint(name))
    return Prompted(bases.load(name, device))


# ---- what the trained generator reads and writes ---------------------------------------------------------------------


def writing(lm: AdaptedLM, text: str, ask: str) -> list[int]:
    """The prompt for a question of a kind about a text."""
    return lm.ids(f"Text: {text}\nAsk: {ask}\nQ:")


def written(pair: Pair) -> str:
    """A pair as all generators read and write it."""
    return f"Q: {pair.question}\nA: {pair.answer}"


def parsed(said: str) -> Pair | None:
    """The pair that was written after such a prompt, which ends in "Q:"; None for what is no pair."""
    question, _, answer = said.partition("\nA:")
    question, answer = question.strip(), answer.strip().split("\n")[0]
    return Pair(question, answer) if question.endswith("?") and answer else None


# ---- words -----------------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """For comparing: lower case, without signs and articles."""
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", re.sub(r"[^\w\s]", "", text.lower())).split())


def names_in(text: str) -> list[str]:
    """Capitalised names, in order: not what is only capitalised because a sentence begins with it."""
    found = []
    for match in NAME.finditer(text):
        name, first = match.group(), match.group().split()[0]
        before = text[: match.start()].rstrip(" \"'“‘")
        begins = not before or before.endswith((".", "!", "?", ":"))
        if begins and first.lower() in ENGLISH_STOP_WORDS:
            name = name.removeprefix(first).strip().removeprefix("of ")
        name = re.sub(r"['’]s$", "", name)
        found += [name] if name else []
    return found


def stands_alone(question: str) -> bool:
    """Whether a question names what it speaks of before it uses a pronoun for it."""
    found = PRONOUN.search(question)
    if not found:
        return True
    before = question[: found.start()]
    return bool(NAME.search(before.partition(" ")[2]) or re.search(r"\b(?:the|a|an)\s+\w+", before, re.I))
