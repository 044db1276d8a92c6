"""The reader's second look: does this slot help to answer this message? A cross-encoder over the best few slots.

The first stage of the reader compares one vector with another, over all slots; it finds what answers, but cannot
always tell "my dog" from "my sister's dog". Here message and slot are read together, by a pair encoder with low-rank
updates of its own, and every slot is judged by itself, so that several can be right at once. What the first stage
found counts as well.

A slot can also say who is meant ("Ngozi is my sister") without answering anything. Then the others are judged once
more, with that beside the message: only so can "What did Ngozi get inked?" find "There's a shark on my sister's arm".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mam.encoder import Encoder

ANSWERS, WHO = 0, 1  # columns of the log-odds


@dataclass(frozen=True)
class Found:
    """What the first look found for a message: slot texts and their log-odds against its null, best first."""

    message: str
    texts: Sequence[str]
    first: Sequence[float]


@dataclass(frozen=True)
class Judgement:
    """Log-odds (texts,) that each slot helps to answer; `who`: which of them says who is meant, if one does."""

    odds: np.ndarray
    who: int | None = None


class Reranker(nn.Module):
    """Pair encoder and linear head: log-odds (pairs, 2) of ANSWERS and WHO.

    `first_look` is the share of the first look's score in the log-odds of answering. It is fitted afterwards, on
    held-out pairs: with that score at hand, the encoder would learn little else.
    """

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder
        self.out = nn.Linear(encoder.width, 2)
        self.first_look = nn.Parameter(torch.tensor(0.5), requires_grad=False)

    def forward(self, messages: Sequence[str], slots: Sequence[str]) -> Tensor:
        """What message and slot say by themselves, without the first look: (pairs, 2) log-odds."""
        return self.out(self.encoder(messages, slots))

    @torch.inference_mode()
    def odds(self, messages: Sequence[str], slots: Sequence[str], first: Sequence[float]) -> np.ndarray:
        """With the first look's scores (pairs,), log-odds against its null: (pairs, 2) float32, for any number."""
        vectors = torch.from_numpy(self.encoder.encode(messages, slots)).to(self.out.weight.device)
        odds = self.out(vectors).float().cpu().numpy()
        odds[:, ANSWERS] += float(self.first_look) * np.asarray(first, dtype=np.float32)
        return odds

    def judge(self, found: Sequence[Found]) -> list[Judgement]:
        """Look at the slots of each message; where one of them says who is meant, look again knowing that."""
        looks = self._look([f.message for f in found], found)
        who = [int(look[:, WHO].argmax()) if len(look) > 1 and look[:, WHO].max() > 0 else None for look in looks]
        named = [i for i, at in enumerate(who) if at is not None]
        messages = [informed(found[i].message, found[i].texts[who[i]]) for i in named]
        again = self._look(messages, [found[i] for i in named])
        judged = [Judgement(look[:, ANSWERS]) for look in looks]
        for i, look in zip(named, again, strict=True):
            odds, at = look[:, ANSWERS].copy(), who[i]
            # who is meant helps as much as the best answer that it leads to, and not at all by itself
            leads_to = min(looks[i][at, WHO], np.delete(odds, at).max())
            odds[at] = max(looks[i][at, ANSWERS], leads_to)
            judged[i] = Judgement(odds, at)
        return judged

    def _look(self, messages: Sequence[str], found: Sequence[Found]) -> list[np.ndarray]:
        """Log-odds (texts, 2) for each message, all pairs in one go."""
        if not messages:
            return []
        slots = [(text, first) for f in found for text, first in zip(f.texts, f.first, strict=True)]
        asked = [message for message, f in zip(messages, found, strict=True) for _ in f.texts]
        odds = self.odds(asked, [text for text, _ in slots], [first for _, first in slots])
        return np.split(odds, np.cumsum([len(f.texts) for f in found])[:-1])


def informed(message: str, who: str) -> str:
    """The message with the slot that says who is meant beside it."""
    return f"{message} ({who})"
