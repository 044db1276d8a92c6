"""Faster linear layers for the frozen base on a CPU, with the same results bit for bit.

oneDNN reads a bfloat16 matrix about twice as fast when it lies in memory in its own blocked order. PyTorch
rearranges it anew in every call; weights that never change can be rearranged once, into a copy that inference
uses beside the untouched parameters. Knows linear layers only; used once, when the base is loaded.
"""

from __future__ import annotations

from functools import partial

import psutil
import torch
from torch import Tensor, nn

SHARE = 0.25  # of the free memory may go into the copies


def pack(model: nn.Module) -> int:
    """Give the bfloat16 linear layers of `model` a packed copy of their weights; returns how many got one.

    None do where the processor or PyTorch cannot, where a copy of the weights would take too much memory, or
    where a packed layer does not give exactly what the plain one gives.
    """
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear and _fits(layer.weight)]
    size = sum(layer.weight.nbytes for layer in layers)
    if not layers or not _supported() or size > SHARE * psutil.virtual_memory().available:
        return 0
    checked: set[torch.Size] = set()
    forwards = []
    with torch.inference_mode():
        for layer in layers:
            forward = partial(_forward, layer, torch.ops.mkldnn._reorder_linear_weight(layer.weight, 1))
            if layer.weight.shape not in checked and not _same(layer, forward):
                return 0
            checked.add(layer.weight.shape)
            forwards.append(forward)
    for layer, forward in zip(layers, forwards, strict=True):
        layer.forward = forward
    return len(layers)


def _forward(layer: nn.Linear, packed: Tensor, x: Tensor) -> Tensor:
    if torch.is_inference_mode_enabled():  # the packed kernel has no gradient
        return torch.ops.mkldnn._linear_pointwise.default(x, packed, layer.bias, "none", [], "")
    return nn.functional.linear(x, layer.weight, layer.bias)


def _fits(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16


def _supported() -> bool:
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _same(layer: nn.Linear, forward: partial) -> bool:
    rows = torch.linspace(-1, 1, 5 * layer.in_features).view(1, 5, -1).to(layer.weight.dtype)
    return all(torch.equal(nn.Linear.forward(layer, x), forward(x)) for x in (rows, rows[:, :1]))
