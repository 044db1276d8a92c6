"""Stand-ins for fast tests: a tiny random base, and a memory model of a few rules that obeys the real interface."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mam.base import Base
from mam.engine import Engine
from mam.index import SlotIndex
from mam.integrator import Integrator, IntegratorConfig
from mam.reader import Reading
from mam.relation import Relation
from mam.values import Candidate, Read, Slot

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_base(context: int = 1024) -> Base:
    """A random base of two small layers that reads bytes."""
    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>")
    fast.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
        initializer_range=0.5,  # so that what it says depends on what it reads
    )
    return Base("byte-base", LlamaForCausalLM(config), fast)


class RuleMemory:
    """Hashed bags of words for vectors, rules for judgements."""

    fingerprint = "rules"
    dim = 64
    gate_threshold = 0.5

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        out = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(out, texts, strict=True):
            for word in _words(text):
                row[zlib.crc32(word.encode()) % self.dim] += 1
        return out

    def keys(self, hidden: np.ndarray) -> np.ndarray:
        return hidden / np.maximum(np.linalg.norm(hidden, axis=1, keepdims=True), 1e-6)

    def gate(self, candidates: Sequence[Candidate], hidden: np.ndarray, context_hidden: np.ndarray) -> list[float]:
        assert hidden.shape == context_hidden.shape == (len(candidates), self.dim)
        return [self._worth(candidate) for candidate in candidates]

    def _worth(self, candidate: Candidate) -> float:
        tells = re.search(r"\b(my|i|we|he|she)\b", candidate.text, re.IGNORECASE) and len(candidate.text.split()) > 2
        return 0.9 if tells and not candidate.said.endswith("?") else 0.1

    def relate(self, text: str, near: Sequence[Slot]) -> Relation:
        for slot in near:
            if _words(slot.text) == _words(text):
                return Relation("duplicate", slot, 0.95)
            if "actually" in text.lower() and len(set(_words(slot.text)) & set(_words(text))) >= 1:
                return Relation("update", slot, 0.9)
        return Relation("new", None, 0.8)

    def read(self, query: str, hidden: np.ndarray, index: SlotIndex, k: int) -> Reading:
        key = self.keys(hidden[None])[0]
        near = index.nearest(key, k) if len(index) else []
        scores = np.array([12 * cosine for _, cosine in near] + [6.0])
        weights = np.exp(scores - scores.max())
        weights = weights / weights.sum()
        asked = 0.9 if "?" in query and re.search(r"\b(my|i)\b", query, re.IGNORECASE) else 0.1
        helps = bool(1 - weights[-1] >= 0.5)
        decision = "read" if helps else "abstain" if asked > 0.5 else "alone"
        reads = tuple(
            Read(slot, float(weight), {"meaning": float(score)}, bool(helps and weight > 0.05))
            for (slot, _), weight, score in zip(near, weights, scores, strict=False)
        )
        return Reading(reads, float(weights[-1]), asked, decision)


def rule_engine(context: int = 1024) -> Engine:
    """An engine of both, with an untrained integrator."""
    base = byte_base(context)
    integrator = Integrator(base, IntegratorConfig(base=base.fingerprint, prefix=4, rank=2))
    return Engine(base, RuleMemory(), integrator.requires_grad_(False))


def _words(text: str) -> list[str]:
    stop = {"is", "a", "the", "what", "my", "i", "called", "actually", "now", "it", "s"}
    return sorted(word for word in re.findall(r"\w+", text.lower()) if word not in stop)
