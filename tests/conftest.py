"""Shared fixtures: a tiny random base, made in milliseconds, and a cache folder that is not the user's.

Tests whose claim is about the real weights take `real_base`, which fetches them where they are not cached
(`make test` has done so already).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import servers
import torch
from fakes import Echo, RuleMemory, rule_engine
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mam import base, fetch
from mam.space import Space
from mam.store import Store, new_id

if "PYTEST_XDIST_WORKER" in os.environ:  # several at once: threads of one would wait for those of another, spinning
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the programs that tests start

SLOWEST = ("test_train", "test_notebooks", "test_bench")  # begun first, so that nothing waits for them

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """One token per byte (256) and three special tokens, with a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    tokens.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens, eos_token="<|im_end|>", additional_special_tokens=list(SPECIAL), chat_template=template
    )


def tiny_config(**changes) -> dict:
    """Settings of a two-layer model with grouped key/value heads, 259 tokens and a context of 512."""
    settings = {
        "vocab_size": 259,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "bos_token_id": 257,
        "eos_token_id": 258,
        "pad_token_id": 258,
        "initializer_range": 0.3,  # large, so that different prompts get different replies
    }
    return settings | changes


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
    items.sort(key=lambda item: item.path.stem not in SLOWEST)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A tiny random Llama with its tokenizer, as a checkpoint folder."""
    folder = tmp_path_factory.mktemp("tiny-base")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**tiny_config())).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_base(tiny_folder) -> base.Base:
    return base.load(tiny_folder, device="cpu")


@pytest.fixture(autouse=True, scope="session")
def float32_on_tiny_bases():
    """Tests do not depend on how fast the machine is at bfloat16."""
    before = os.environ.get("MAM_DTYPE")
    os.environ["MAM_DTYPE"] = before or "float32"
    yield
    if before is None:
        del os.environ["MAM_DTYPE"]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder for this test."""
    monkeypatch.setenv("MAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a real PostgreSQL server, as a store takes it."""
    with servers.postgres() as address:
        yield address


@pytest.fixture(params=["file", "server"])
def open_store(request, tmp_path) -> Iterator[Callable[..., Store]]:
    """Opens stores of users who have nothing yet, in files or on a server; the same user again is the same store."""
    where = tmp_path / "data" if request.param == "file" else request.getfixturevalue("server")
    mark, opened = new_id(), []  # users of other tests are on the server, too

    def open_one(user: str = "ann") -> Store:
        opened.append(Store(where, f"{user}-{mark}"))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture(scope="session")
def real_base() -> base.Base:
    """The default base with its real weights, in the precision this machine would use."""
    before = os.environ.pop("MAM_DTYPE")
    try:
        return base.load(device="cpu")
    finally:
        os.environ["MAM_DTYPE"] = before


@pytest.fixture(scope="module")
def engine(request, tiny_folder):
    """A tiny base, and a memory model that goes by rules; or what the module makes of that base with its ENGINE."""
    torch.set_num_threads(1)
    return getattr(request.module, "ENGINE", rule_engine)(tiny_folder)


@pytest.fixture
def quick_packs(monkeypatch, tiny_folder):
    import packing  # here and not above: few tests need it

    packing.quick(monkeypatch, tiny_folder)


@pytest.fixture
def open_space(tmp_path, engine) -> Iterator[Callable[..., Space]]:
    """Opens spaces on the same folder, as other tabs and processes would."""
    opened = []

    def open_one(user: str = "ann", folder: str = "data", progress=None) -> Space:
        opened.append(Space(Store(tmp_path / folder, user), engine, progress))
        return opened[-1]

    yield open_one
    for space in opened:
        space.close()


@pytest.fixture
def m(open_space) -> Space:
    return open_space()


@pytest.fixture(scope="module")
def browser():
    """A real Chromium, without a window."""
    import pages  # here and not above: it takes seconds to import, and few tests need it

    yield from pages.started()


@pytest.fixture
def served(tmp_path, engine):
    """A running page; see `pages.running`."""
    import pages

    yield from pages.running(tmp_path / "data", engine)


@pytest.fixture
def tab(served, browser, request):
    """Opens the page in a tab; see `pages.tabs`."""
    import pages

    yield from pages.tabs(served, browser, request.node.name)


@pytest.fixture
def world(monkeypatch, tiny_folder):
    """For benchmarks: an echoing base, a memory of rules, no fetched weights."""
    from mam.bench import baselines, common

    torch.set_num_threads(1)
    monkeypatch.setattr(common, "MAX_TOKENS", 400)  # the tiny base reads bytes
    monkeypatch.setattr(fetch, "encoder", lambda: None)
    monkeypatch.setattr(baselines, "MiniLM", lambda _: RuleMemory())
    engine = rule_engine(tiny_folder)
    engine.base.context = 8192
    Echo(engine)
    return common.World(engine)


@pytest.fixture
def desk(tmp_path, engine):
    """The desk of a page, without a server."""
    from mam.web.desk import Desk

    desk = Desk(lambda user, memory: Space(Store(tmp_path / "data", user), engine), "ann")
    desk._load()
    return desk


@pytest.fixture
def service(tmp_path, engine):
    """A running server with keys for Ann and Bob; see `serving.running`."""
    import serving

    with serving.running(tmp_path, engine) as found:
        yield found
