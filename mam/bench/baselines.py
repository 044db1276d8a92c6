"""What memory has to beat: the same frozen base, given notes in its prompt.

Retrieval picks the k best of the user's raw sentences, each with its date in front (BM25 with stemming, or
all-MiniLM-L6-v2 as published); `full_context` gives the whole conversation. Knows no memory model and no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import bm25s
import numpy as np
import Stemmer
import torch
from transformers import AutoModel, AutoTokenizer, DynamicCache

from mam import fetch
from mam.base import Base
from mam.bench import prompts
from mam.lives import Life
from mam.values import USER

if TYPE_CHECKING:
    from mam.endpoint import Endpoint


def day(moment) -> str:
    return f"{moment.day} {moment:%B %Y}"


@dataclass(frozen=True)
class Told:
    """What was said, as a prompt can hold it, dated; small talk included."""

    notes: list[str]  # every sentence of the user's, as said
    transcript: list[str]  # both speakers' utterances, in order

    @classmethod
    def of(cls, said: Iterable[tuple[datetime, str, str, Sequence[str]]]) -> Told:
        """From (when, speaker, utterance, its sentences)."""
        notes, transcript = [], []
        for at, speaker, text, sentences in said:
            transcript.append(f"[{day(at)}] {speaker.capitalize()}: {text}")
            if speaker == USER:
                notes += [f"[{day(at)}] {sentence}" for sentence in sentences]
        return cls(notes, transcript)

    @classmethod
    def in_life(cls, life: Life) -> Told:
        return cls.of(
            (session.started, utterance.speaker, utterance.text, [s.text for s in utterance.sentences])
            for session in life.sessions
            for utterance in session.utterances
        )


class BM25:
    """Okapi BM25 over notes: English stop words out, Snowball stems."""

    def __init__(self, texts: Sequence[str]):
        self.stemmer = Stemmer.Stemmer("english")
        self.size = len(texts)
        self.index = bm25s.BM25()
        self.index.index(self._words(list(texts)), show_progress=False)

    def _words(self, texts):
        return bm25s.tokenize(texts, stopwords="en", stemmer=self.stemmer, show_progress=False)

    def best(self, question: str, k: int) -> list[int]:
        """Indices of the k best notes, best first."""
        found, _ = self.index.retrieve(self._words([question]), k=min(k, self.size), show_progress=False)
        return [int(i) for i in found[0]]

    def scores(self, question: str) -> np.ndarray:
        """(notes,) float32."""
        words = bm25s.tokenize([question], stopwords="en", stemmer=self.stemmer, return_ids=False, show_progress=False)
        return self.index.get_scores(words[0]) if words[0] else np.zeros(self.size, dtype=np.float32)


class MiniLM:
    """all-MiniLM-L6-v2, untouched: mean-pooled, unit length, cosine."""

    def __init__(self, folder: Path):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        with fetch.quiet():
            self.model = AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], batch: int = 64) -> np.ndarray:
        """(n, 384) float32 unit vectors."""
        rows = []
        for start in range(0, len(texts), batch):
            given = self.tokenizer(
                list(texts[start : start + batch]), padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            hidden = self.model(**given).last_hidden_state
            mask = given["attention_mask"].unsqueeze(-1)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            rows.append(torch.nn.functional.normalize(pooled, dim=-1).numpy())
        return np.concatenate(rows)


def retrieved(name: str, texts: Sequence[str], questions: Sequence[str], minilm: MiniLM, k: int) -> list[list[int]]:
    """For each question, the indices of the k best texts, best first, by "prompt_bm25", "prompt_minilm" or
    "prompt_sum", the sum of both as in `rankings`."""
    if not texts:
        return [[] for _ in questions]
    if name == "prompt_sum":
        return [[int(i) for i in found["sum"][:k]] for found in rankings(texts, questions, minilm)]
    if name == "prompt_bm25":
        index = BM25(texts)
        return [index.best(question, k) for question in questions]
    keys = minilm.encode(texts)
    return [[int(i) for i in np.argsort(-(keys @ query), kind="stable")[:k]] for query in minilm.encode(questions)]


def rankings(texts: Sequence[str], questions: Sequence[str], minilm: MiniLM) -> list[dict[str, np.ndarray]]:
    """For each question, all texts by BM25, by MiniLM and by the sum of both, z-scored over the texts, best first."""
    index, keys, found = BM25(texts), minilm.encode(texts), []
    for question, query in zip(questions, minilm.encode(questions), strict=True):
        scores = {"bm25": index.scores(question), "minilm": keys @ query}
        scores["sum"] = sum((x - x.mean()) / (x.std() + 1e-9) for x in scores.values())
        found.append({name: np.argsort(-values, kind="stable") for name, values in scores.items()})
    return found


def message_lists(
    name: str, told: Told, questions: Sequence[str], minilm: MiniLM, choice: prompts.Choice | None = None
) -> list[prompts.Messages]:
    """The messages of each question for a baseline, in its tuned form or another `choice`."""
    if name == "none":
        return [prompts.bare((), question) for question in questions]
    choice = choice or prompts.CHOSEN[name]
    form = prompts.FORMS[choice.form]
    if choice.notes is None:
        return [form(told.transcript, question) for question in questions]
    texts, step = told.notes, -1 if choice.best_last else 1
    return [
        form([texts[i] for i in found[::step]], question)
        for question, found in zip(questions, retrieved(name, texts, questions, minilm, choice.notes), strict=True)
    ]


def cut(base: Base | Endpoint, messages: prompts.Messages, room: int, best_first: bool = False) -> list:
    """A prompt as the base takes it; one too long for it loses notes, never the question.

    The first ones, which are the oldest of a history, or if `best_first` the last ones.
    """
    ids = base.prompt(messages)
    while (size := base.size(ids)) > room:
        longest = max(range(len(messages)), key=lambda i: len(messages[i]["content"]))
        lines = messages[longest]["content"].split("\n")
        notes = [i for i, line in enumerate(lines) if line.startswith("- ")][:: -1 if best_first else 1]
        if not notes:
            return ids[-room:]
        drop = set(notes[: max(1, len(notes) * (size - room) // size)])
        text = "\n".join(line for i, line in enumerate(lines) if i not in drop)
        messages = [*messages[:longest], {**messages[longest], "content": text}, *messages[longest + 1 :]]
        ids = base.prompt(messages)
    return ids


def common_prefix(prompts_ids: Sequence[Sequence[int]]) -> int:
    """Length of what all prompts begin with, leaving every prompt at least one token."""
    shortest = min(map(len, prompts_ids)) - 1
    for i in range(shortest):
        if len({ids[i] for ids in prompts_ids}) > 1:
            return i
    return shortest


@torch.inference_mode()
def complete(base: Base, prompts_ids: Sequence[list[int]], max_tokens: int = 32) -> list[str]:
    """Greedy replies to prompts in one batch; what they all begin with (a history) is run only once.

    Greedy batched decoding may differ from one-by-one decoding in the last bit of a logit; that favours nobody.
    """
    n, shared = len(prompts_ids), common_prefix(prompts_ids)
    cache = DynamicCache(config=base.model.config)
    if shared:
        start = torch.tensor([list(prompts_ids[0][:shared])], device=base.device)
        base.model(input_ids=start, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(n)
    rest = [list(ids[shared:]) for ids in prompts_ids]
    width = max(map(len, rest))
    pad = next(iter(base.stop_ids))
    ids = torch.tensor([[pad] * (width - len(r)) + r for r in rest], device=base.device)
    mask = torch.tensor([[1] * shared + [0] * (width - len(r)) + [1] * len(r) for r in rest], device=base.device)
    replies: list[list[int]] = [[] for _ in range(n)]
    open_rows = set(range(n))
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    for _ in range(max_tokens):
        out = base.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        best = out.logits[:, -1].argmax(-1)
        for row in list(open_rows):
            token = int(best[row])
            open_rows.discard(row) if token in base.stop_ids else replies[row].append(token)
        if not open_rows:
            break
        ids, positions = best.unsqueeze(1), positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(n, 1)], 1)
    return [base.decode(reply).strip() for reply in replies]


def with_gold_prompt(
    base: Base,
    rows: Sequence[dict],
    notes: Sequence[Sequence[str]],
    score: Callable[[dict, str], float],
    form: prompts.Form = prompts.READING[prompts.GOLD],
    max_tokens: int = 32,
) -> list[dict]:
    """Rows with "gold_prompt": the score 0..1 of a reply to the row's notes and "question" in a prompt alone.

    notes: of each row, what answers its question. The base is not asked, and "gold_prompt" is None, without notes or
    where the row's "score" is full already. score: of a row and the reply.
    """
    short = [number for number, row in enumerate(rows) if notes[number] and row["score"] < 1]
    replies = answers(base, [form(notes[number], rows[number]["question"]) for number in short], max_tokens)
    found = {number: score(rows[number], reply) for number, reply in zip(short, replies, strict=True)}
    return [{**row, "gold_prompt": found.get(number)} for number, row in enumerate(rows)]


def answers(
    base: Base, lists: Sequence[prompts.Messages], max_tokens: int = 32, batch: int = 16, best_first: bool = False
) -> list[str]:
    """Replies to message lists in their order; neighbours in length share a batch, so that little is padding.

    best_first: see `cut`.
    """
    ids = [cut(base, messages, base.context - max_tokens, best_first) for messages in lists]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    replies: list[str] = [""] * len(ids)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        for row, reply in zip(rows, complete(base, [ids[i] for i in rows], max_tokens), strict=True):
            replies[row] = reply
    return replies
