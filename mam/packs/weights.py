"""The memory LM: a small causal LM of its own with low-rank adapters, one for each shard of a pack.

Knows torch, `peft` and token ids; does not know documents, files of packs or executives. The LM is loaded separately
from the executive, which never carries one of these adapters. Its own weights never change either: an adapter is all
that a shard's documents leave behind. The generator is the same thing with another adapter.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from mam import base as bases
from mam.errors import InputError, WeightsError

RANK, ALPHA = 16, 32
HELD = 24  # adapters in memory at once; of the default base 20 MB each
LONGEST = 256  # tokens of a question; what is longer loses its beginning
METHODS = {"linear": "linear", "ties": "ties", "dare": "dare_linear"}  # of merging: name in `peft`
DENSITY = 0.5  # share of an adapter's values that TIES and DARE keep
_NONE = "none"  # the adapter that changes nothing: `peft` wants one at any time


@dataclass(frozen=True)
class Said:
    text: str
    confidence: float  # geometric mean of the tokens' chances, 0..1


class AdaptedLM:
    """A frozen causal LM that carries one adapter at a time, or none.

    Adapters are known by a name; `fingerprint` is that of the LM's own weights. Hold `lock` around whatever belongs
    together: which adapter is active is a state of the network.
    """

    def __init__(self, id: str, device: str = "auto"):
        """Raises WeightsError for weights that cannot be loaded, or that no adapter fits."""
        self.base = bases.load(id, device)
        self.id, self.fingerprint = str(id), self.base.fingerprint
        self.lock = threading.RLock()
        if self.base.tokenizer.eos_token_id is None:
            raise WeightsError(f"The base {id} has no token that ends a reply; choose another for packs.")
        try:
            with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of `peft` using transformers
                self._model = get_peft_model(self.base.model, _config(), adapter_name=_NONE)
        except ValueError as error:
            raise WeightsError(f"No adapter fits the base {id} ({error}); choose another for packs.") from error
        self._held: OrderedDict[str, None] = OrderedDict()
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._state(_NONE).items()}

    # ---- adapters ------------------------------------------------------------------------------------------------

    def new(self, name: str, seed: int) -> nn.ParameterDict:
        """A new adapter, which changes nothing yet: its trainable parameters. The same ones for the same seed."""
        with self.lock, torch.random.fork_rng(devices=[]):
            self.drop(name)
            torch.manual_seed(seed)
            self._model.add_adapter(name, _config())
            self._held[name] = None
            found = {key: p for key, p in self._model.named_parameters() if f".{name}." in key}
            return nn.ParameterDict({key.replace(".", "-"): p.requires_grad_() for key, p in found.items()})

    def load(self, name: str, tensors: dict[str, Tensor], evict: bool = True) -> None:
        """Carry this adapter from now on; unless `evict` is false, the one that was not used for longest goes.

        Raises WeightsError for an adapter of another architecture.
        """
        if {key: tuple(tensor.shape) for key, tensor in tensors.items()} != self.shapes:
            raise WeightsError(f"This adapter is for another architecture than {self.id}.")
        with self.lock:
            self.new(name, 0)
            set_peft_model_state_dict(self._model, tensors, adapter_name=name)
            for old in list(self._held)[:-HELD] if evict else ():
                self.drop(old)

    def drop(self, name: str) -> None:
        with self.lock:
            if name in self._held:
                del self._held[name]
                self._model.set_adapter(_NONE)
                self._model.delete_adapter(name)

    def holds(self, name: str) -> bool:
        return name in self._held

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The adapter as it can be kept: float32, on the CPU."""
        with self.lock:
            return {key: t.detach().cpu().float().contiguous().clone() for key, t in self._state(name).items()}

    def merged(self, names: Sequence[str], method: str, seed: int) -> dict[str, Tensor]:
        """One adapter of several, all of them held, at equal weights. Raises InputError for an unknown method."""
        if method not in METHODS:
            raise InputError(f"Adapters cannot be merged by {method!r}; choose one of {', '.join(METHODS)}.")
        density = None if method == "linear" else DENSITY
        with self.lock, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # DARE drops values by chance
            self._model.add_weighted_adapter(
                list(names), [1 / len(names)] * len(names), "merged",
                combination_type=METHODS[method], density=density,
            )  # fmt: skip
            self._held["merged"] = None
            try:
                return self.tensors("merged")
            finally:
                self.drop("merged")

    @contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """With this adapter active; None: the LM alone."""
        with self.lock:
            self._model.set_adapter(name or _NONE)
            if name:
                self._held.move_to_end(name)
            try:
                yield
            finally:
                self._model.set_adapter(_NONE)

    def _state(self, name: str) -> dict[str, Tensor]:
        return get_peft_model_state_dict(self._model, adapter_name=name, save_embedding_layers=False)

    # ---- with the active adapter ---------------------------------------------------------------------------------

    def hidden(self, ids: Tensor) -> Tensor:
        """Last hidden states (rows, tokens, width) of `ids` (rows, tokens), padded on the right."""
        return self.base.model.base_model(input_ids=ids, use_cache=False).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., vocabulary) float32."""
        return self.base.model.get_output_embeddings()(hidden).float()

    def ids(self, text: str) -> list[int]:
        return self.base.tokenizer(text, add_special_tokens=False)["input_ids"]

    @property
    def stop(self) -> int:
        """The token that ends what it learns to say."""
        return self.base.tokenizer.eos_token_id

    @torch.inference_mode()
    def complete(self, prompts: Sequence[list[int]], max_tokens: int) -> list[Said]:
        """What follows each prompt, greedily, all in one batch. What comes out may depend on the batch's other rows."""
        width = max(map(len, prompts))
        device, stops = self.base.device, sorted({self.stop, *self.base.stop_ids})
        ids = torch.tensor([[self.stop] * (width - len(p)) + p for p in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        out = self._model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=max_tokens, do_sample=False, eos_token_id=stops,
            pad_token_id=self.stop, output_scores=True, return_dict_in_generate=True,
        )  # fmt: skip
        said, steps = [], torch.stack(out.scores, dim=1).float().log_softmax(-1)
        for row, chances in zip(out.sequences[:, width:].tolist(), steps, strict=True):
            end = next((i for i, id in enumerate(row) if id in stops), len(row))
            upto = row[: end + 1]  # the decision to stop counts, too
            logs = chances[range(len(upto)), upto]
            said.append(Said(self.base.decode(row[:end]).strip(), float(logs.mean().exp())))
        return said


def adapter_name(sha256: str) -> str:
    """What the adapter of a file with this hash is called in an LM."""
    return f"adapter-{sha256[:24]}"


def forget(*hashes: str) -> None:
    """Drop the adapters of the files with these hashes from every LM that answers."""
    with _loading:
        loaded = list(_loaded.values())
    for lm in loaded:  # not under the lock above: who has an LM's may want that one
        for sha256 in hashes:
            lm.drop(adapter_name(sha256))


def asking(lm: AdaptedLM, question: str) -> list[int]:
    """The prompt of a question. Not the LM's chat template: its system prompt would double the cost of training."""
    words = " ".join(question.split())
    return lm.ids("Question:") + lm.ids(f" {words}")[-LONGEST:] + lm.ids("\nAnswer:")


def answer(lm: AdaptedLM, question: str, max_tokens: int) -> Said:
    """What the LM with its active adapter answers: one line."""
    (said,) = lm.complete([asking(lm, question)], max_tokens)
    return Said(said.text.partition("\n")[0].strip(), said.confidence)


def _config() -> LoraConfig:
    return LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")


_loaded: dict[tuple[str, str], AdaptedLM] = {}
_loading = threading.Lock()


def load(id: str = bases.DEFAULT, device: str = "auto") -> AdaptedLM:
    """The LM that answers, once per process and beside any executive. Whoever trains takes one of their own."""
    with _loading:
        if (id, device) not in _loaded:
            _loaded[id, device] = AdaptedLM(id, device)
        return _loaded[id, device]
