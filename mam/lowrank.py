"""Low-rank updates on chosen linear layers of a frozen network, present only while they are switched on.

    y = W x  becomes  y = W x + (x A) B · scale            (LoRA, Hu et al. 2021, arXiv 2106.09685)

The network is not wrapped, copied or changed: inside `active()` a forward hook adds the update to the layer's
output, outside there is no hook at all, so that "off" is the network itself, bit for bit. Used twice: on the
sentence encoder (always on) and on the base (on only while something is read).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class LowRank(nn.Module):
    """Trainable `A` (in, rank) and `B` (rank, out) for every layer of `network` whose name matches `targets`.

    `B` starts at zero, so an untrained update changes nothing. Raises ValueError when nothing matches.
    """

    def __init__(self, network: nn.Module, targets: str, rank: int = 16, alpha: float = 16.0):
        super().__init__()
        self.scale = alpha / rank
        self._layers = [(name, m) for name, m in network.named_modules() if re.search(targets, name) and _width(m)]
        if not self._layers:
            raise ValueError(f"no linear layer of {type(network).__name__} matches {targets!r}")
        self.a, self.b = nn.ParameterList(), nn.ParameterList()
        self._frozen: list[tuple[Tensor, Tensor]] = []
        for _, layer in self._layers:
            width_in, width_out = _width(layer)
            self.a.append(nn.Parameter(torch.randn(width_in, rank) / width_in**0.5))
            self.b.append(nn.Parameter(torch.zeros(rank, width_out)))

    @property
    def layers(self) -> list[str]:
        return [name for name, _ in self._layers]

    @contextmanager
    def active(self, rows: Tensor | None = None) -> Iterator[None]:
        """While this is open, the layers' outputs carry the update.

        rows: (batch, 1, 1), 1 for the rows of a batch that carry it and 0 for the others, which stay bit-identical.
        """
        hooks = [layer.register_forward_hook(self._hook(i, rows)) for i, (_, layer) in enumerate(self._layers)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def fold(self) -> None:
        """Add the update to the layers' weights for good. Only for a network that belongs to the memory model."""
        for i, (_, layer) in enumerate(self._layers):
            update = (self.a[i] @ self.b[i]) * self.scale
            layer.weight += (update if type(layer).__name__ == "Conv1D" else update.T).to(layer.weight.dtype)

    @torch.no_grad()
    def freeze(self) -> None:
        """Training is over: keep A and B · scale in float32, whose small products start faster than bfloat16's."""
        self.requires_grad_(False)
        self._frozen = [(a.float(), b.float() * self.scale) for a, b in zip(self.a, self.b, strict=True)]

    def _hook(self, i: int, rows: Tensor | None):
        if self._frozen:
            a, b = self._frozen[i]

            def update(x: Tensor, output: Tensor) -> Tensor:
                return ((x.float() @ a) @ b).to(output.dtype)
        else:
            a, b, scale = self.a[i], self.b[i], self.scale

            def update(x: Tensor, output: Tensor) -> Tensor:
                return (x @ a.to(x.dtype)) @ (b * scale).to(x.dtype)

        if rows is None:
            return lambda _layer, inputs, output: output + update(inputs[0], output)
        return lambda _layer, inputs, output: output + update(inputs[0], output) * rows.to(output.dtype)


def _width(module: nn.Module) -> tuple[int, int] | None:
    """(in, out) of a linear layer; `Conv1D` is GPT-2's linear layer with its weight transposed."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if type(module).__name__ == "Conv1D":
        return module.weight.shape[0], module.weight.shape[1]
    return None
