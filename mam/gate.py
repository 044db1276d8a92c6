"""The write gate: is this candidate worth keeping? First trained judgement of a turn.

Sees the candidate, what was said just before, who speaks, and two surface facts. Facts, preferences, events and
plans pass; greetings, questions, commands, chatter and the base's own inventions do not. Does not know what is
stored already (relation head) or where slots live (store).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mam.values import ASSISTANT, USER, Candidate

SURFACE = 5


class Gate(nn.Module):
    """Two-layer perceptron on [candidate, context, surface], plus the surface by itself: who speaks must not drown."""

    def __init__(self, width: int, hidden: int = 128):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2 * width + SURFACE, hidden),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(hidden, 1),
        )

        self.surface = nn.Linear(SURFACE, 1, bias=False)
        nn.init.zeros_(self.surface.weight)

    def forward(self, candidates: Tensor, contexts: Tensor, surface: Tensor) -> Tensor:
        """candidates, contexts: (n, width) encoder vectors (zeros for no context); surface: (n, 5) → (n,) log-odds."""
        return (self.net(torch.cat([candidates, contexts, surface], dim=-1)) + self.surface(surface)).squeeze(-1)


def surface(candidates: Sequence[Candidate]) -> Tensor:
    """What the vectors may not show: (n, 5) speaker one-hot (user, assistant, somebody else), question mark, length."""
    rows = [
        [
            c.speaker == USER,
            c.speaker == ASSISTANT,
            c.speaker not in (USER, ASSISTANT),
            c.said.rstrip().endswith("?"),
            min(len(c.said.split()), 40) / 40,
        ]
        for c in candidates
    ]
    return torch.tensor(rows, dtype=torch.float32).reshape(len(rows), SURFACE)
