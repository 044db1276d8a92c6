"""Any base: what is promised of one holds for bases of every build, from attaching in one command to the reply."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import byte_tokenizer, tiny_config
from fakes import RuleMemory
from test_batch import started, together
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PhiConfig,
    Qwen3Config,
    RecurrentGemmaConfig,
    RwkvConfig,
)

from mam import base as bases
from mam import decode
from mam import engine as engines
from mam.base import Base
from mam.batch import Batch
from mam.cli import main
from mam.engine import Engine, cannot_carry
from mam.errors import WeightsError
from mam.integrator import Integrator, IntegratorConfig
from mam.model import MemoryModel
from mam.space import Space
from mam.store import Store
from mam.train.batch import Example, answer_logits
from mam.values import Read, Slot

OTHERS = {"vocab_size": 259, "initializer_range": 0.3, "bos_token_id": 257, "eos_token_id": 258}
WIDE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS = {  # windows are shorter than a slot, so that nothing of a memory may go by them
    "llama": LlamaConfig(**tiny_config()),
    "qwen3": Qwen3Config(**tiny_config()),
    "gemma3": Gemma3TextConfig(
        **tiny_config(sliding_window=8, layer_types=["sliding_attention", "full_attention"], tie_word_embeddings=False)
    ),
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=1024, **OTHERS),
    "gpt_neox": GPTNeoXConfig(**WIDE, **OTHERS),
    "phi": PhiConfig(**WIDE, **OTHERS),
    "mistral": MistralConfig(**tiny_config(sliding_window=8)),
    "cohere": CohereConfig(**tiny_config()),  # its logits are more than a product with the output embeddings
}
TINY = {"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 3, "bos_token_id": 257, "eos_token_id": 258}
GEMMA = {"intermediate_size": 64, "num_attention_heads": 4, "lru_width": 32, "attention_window_size": 16}
RECURRENT = {  # and what is said of them
    "mamba": (MambaConfig(**TINY, state_size=4, initializer_range=0.5, pad_token_id=258), "cannot carry slot blocks"),
    "some layers": (RecurrentGemmaConfig(**TINY, **GEMMA), "cannot carry slot blocks"),
    "no layer with a length": (RecurrentGemmaConfig(**TINY | {"num_hidden_layers": 2}, **GEMMA), "does not know"),
    "rwkv": (RwkvConfig(**TINY, context_length=512, attention_hidden_size=32), "in a way that mam does not know"),
}
REX = Slot("a", "My dog is called Rex.", "", "user", datetime(2026, 11, 22, tzinfo=UTC))
OSLO = Slot("b", "I live in Oslo.", "", "user", datetime(2026, 11, 22, tzinfo=UTC))  # shorter, so positions stay
ASK, TALK = "What is my dog called?", "Name three rivers."


def made(folder: Path, config) -> Base:
    """A tiny random model as a checkpoint, loaded like any other."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return bases.load(folder, device="cpu")


@pytest.fixture(scope="module", params=CONFIGS)
def base(request, tmp_path_factory) -> Base:
    torch.set_num_threads(1)
    return made(tmp_path_factory.mktemp(request.param), CONFIGS[request.param])


@pytest.fixture(scope="module")
def integrator(base) -> Integrator:
    torch.manual_seed(1)
    module = Integrator(base, IntegratorConfig(base.fingerprint, prefix=4, rank=2)).requires_grad_(False)
    for b in module.adapters.b:  # an untrained update is zero: make it matter
        b.normal_(std=0.3)
    return module


def prompt(base: Base, text: str = ASK) -> list[int]:
    return base.prompt([{"role": "user", "content": text}])


def logits(integrator: Integrator, *reads: Read) -> torch.Tensor:
    return decode.forward(integrator.base.model, prompt(integrator.base), integrator.prepare(reads))[0]


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-4)


def test_it_can_carry_slot_blocks(base):
    before = base.weights_hash()
    assert cannot_carry(base) == "" and base.weights_hash() == before


def test_with_nothing_read_it_says_what_transformers_says(base, integrator, tmp_path):
    m = Space(Store(tmp_path), Engine(base, RuleMemory(), integrator))
    m.add(REX.text)
    turn = m.session().send(TALK, max_tokens=40)
    m.close()
    assert not any(read.given for read in turn.reads)
    given = torch.tensor([prompt(base, TALK)])
    out = base.model.generate(given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=40)
    said = out[0, given.shape[1] :].tolist()
    ends = [at for at, id in enumerate(said) if id in base.stop_ids]
    assert turn.reply == base.decode(said[: min(ends, default=len(said))])


def test_a_weight_of_zero_is_a_deleted_slot(integrator):
    deleted = logits(integrator, Read(REX, 0.7))
    assert torch.equal(logits(integrator, Read(REX, 0.7), Read(OSLO, 0.0)), deleted)
    assert close(logits(integrator, Read(REX, 0.7), Read(OSLO, 1e-30)), deleted)  # and on the way there
    assert not close(logits(integrator, Read(REX, 0.7), Read(OSLO, 0.3)), deleted)


def test_a_cached_block_equals_a_fresh_one(integrator):
    reads = Read(REX, 0.6), Read(OSLO, 0.3)
    first = logits(integrator, *reads)
    cached = logits(integrator, *reads)
    for slot in (REX, OSLO):
        integrator.forget(slot.text)
    assert not integrator._blocks
    integrator.block("Something else came first.")
    assert torch.equal(first, cached) and torch.equal(first, logits(integrator, *reads))


def test_training_sees_what_the_token_loop_sees(base, integrator, monkeypatch):
    monkeypatch.setattr("mam.integrator.SHORTEST_WORD", 1)  # the tokens are bytes
    monkeypatch.setattr(integrator, "_words", {})
    asked, answer = prompt(base), base.tokenizer("Rex, in Oslo.")["input_ids"]
    weights = 0.6, 0.3
    example = Example((REX.text, OSLO.text), tuple(np.log(weights)), tuple(asked), tuple(answer))
    other = Example((REX.text,), (0.0,), tuple(asked[:9]), tuple(answer[:3]))  # of other lengths: padding is not seen
    with torch.no_grad():
        trained, _ = answer_logits(integrator, [other, example])
    memory = integrator.prepare([Read(slot, weight) for slot, weight in zip((REX, OSLO), weights, strict=True)])
    used = decode.forward(base.model, [*asked, *answer[:-1]], memory, last=len(answer))[0]
    assert close(trained[3:], used)


def test_replies_made_together_are_those_made_alone(base, integrator):
    assert Batch.fits(base)
    memories = [integrator.prepare([Read(REX, 0.7)]), None, integrator.prepare([Read(OSLO, 0.4), Read(REX, 0.2)])]
    jobs = [{"ids": prompt(base, ASK + "?" * at), "max_tokens": 24, "memory": memories[at]} for at in range(3)]
    alone = [list(base.generate(**job)) for job in jobs]
    batch = started(base)
    assert together(batch, jobs) == alone
    batch.close()


# -- attaching ---------------------------------------------------------------------------------------------------------


class Rules(RuleMemory):
    """A memory model that goes by rules, whose attachments lie in a folder like any other's."""

    attach, save_attachment = MemoryModel.attach, MemoryModel.save_attachment

    def __init__(self, folder: Path):
        self.folder = folder


@pytest.fixture
def memory(tmp_path, monkeypatch) -> Path:
    """The folder of a memory model that has no attachment yet."""
    monkeypatch.setattr(MemoryModel, "load", lambda path, *_, **__: Rules(Path(path)))
    monkeypatch.setattr(engines, "_loaded", {})
    return tmp_path / "memory"


def attach(base: Base, memory: Path, *more: str) -> int:
    """The command, a few steps of it."""
    return main(["attach", "--base", base.id, "--device", "cpu", "--out", str(memory), "--smoke", *more])


def test_one_command_attaches_it(base, memory, tmp_path, capsys):
    before = base.weights_hash()
    assert attach(base, memory, "--run", str(tmp_path / "run")) == 0
    assert "integrator: 2 steps of" in (printed := capsys.readouterr().out) and "at most" in printed
    said = []
    for _ in range(2):  # and after a restart
        engines._loaded.clear()
        engine = engines.engine(base.id, "cpu", memory)
        assert engine.about()["memories as"] == engines.AS_BLOCKS
        m = Space(Store(tmp_path / "data"), engine)
        slot = (m.slots() or [m.add(REX.text)])[0]
        turn = m.session().send(ASK, max_tokens=24)
        assert [read.slot.id for read in turn.reads if read.given] == [slot.id]
        assert max(m.without(turn, [slot.id])[1]) > 1e-3
        looked = m.attribution(turn)
        assert looked.attention.shape == (len(looked.tokens), 1) and 0 < looked.attention.max() <= 1
        said.append(turn.reply)
        assert engine.base.weights_hash() == before
        m.close()
    assert said[0] == said[1]


@pytest.mark.parametrize("kind", RECURRENT)
def test_what_cannot_carry_blocks_is_told_so_before_anything_begins(kind, memory, tmp_path, capsys):
    config, why = RECURRENT[kind]
    base = made(tmp_path / "base", config)
    before = base.weights_hash()
    try:
        assert why in cannot_carry(base)
    except WeightsError as error:
        assert why in str(error)
    assert base.weights_hash() == before
    assert attach(base, memory, "--run", str(tmp_path / "run")) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and why in said and base.id in said
    assert not memory.exists() and not (tmp_path / "run").exists()


def test_one_base_after_another(memory, tmp_path):
    """With the same folders, each begins anew and leaves the other's attachment as it is."""
    one, other = (made(tmp_path / name, CONFIGS[name]) for name in ("llama", "qwen3"))
    for base in (one, other, one):  # the third time there is nothing left to do
        assert attach(base, memory, "--run", str(tmp_path / "run")) == 0
    model = Rules(memory)
    assert [model.attach(base).config.base for base in (one, other)] == [one.fingerprint, other.fingerprint]
    assert len(list((tmp_path / "run").iterdir())) == len(json.loads((memory / "training.json").read_text())) == 2


def test_every_base_has_one_attachment(memory, tmp_path):
    """Found by the weights of its base, whatever the folder of that is called, and in nobody's way."""
    one, other = (made(tmp_path / name / "model-2.5", CONFIGS[name]) for name in ("llama", "phi"))
    moved = bases.load((tmp_path / "llama" / "model-2.5").rename(tmp_path / "moved"), "cpu")
    model = Rules(memory)
    for base in (one, other, moved):
        integrator = Integrator(base, IntegratorConfig(base.fingerprint, prefix=3 if base is moved else 2, rank=2))
        model.save_attachment(integrator, Path(base.id).name)
    names = sorted(file.name for file in (memory / "attachments").glob("*.json"))
    assert names == [f"model-2.5-{other.fingerprint}.json", "model-2.5.json"]
    assert model.attach(moved).config.prefix == 3 and model.attach(other).config.prefix == 2
