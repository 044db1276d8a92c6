"""The token loop: equal to transformers' own greedy decoding, stoppable, reproducible, right with a memory."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from conftest import byte_tokenizer, tiny_config
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, Lfm2Config, MistralConfig

from mam import decode
from mam.decode import Prepared
from mam.errors import InputError, WeightsError

EOS = 258
PROMPT = list(b"The dog sat by the river and")


def sliding(kind: str):
    """Tiny bases whose window (8 tokens) is much shorter than the prompt."""
    torch.manual_seed(1)
    if kind == "mixed":  # layers of two kinds: sliding and full
        config = Gemma3TextConfig(**tiny_config(sliding_window=8, layer_types=["sliding_attention", "full_attention"]))
        return Gemma3ForCausalLM(config).eval()
    return AutoModelForCausalLM.from_config(MistralConfig(**tiny_config(sliding_window=8))).eval()


def models(tiny_base):
    return {"llama": tiny_base.model, "mixed": sliding("mixed"), "sliding": sliding("all")}


def run(model, ids=PROMPT, **options) -> list[int]:
    return list(decode.generate(model, list(ids), **({"context": 512, "max_tokens": 40} | options)))


def reference(model, ids: list[int], count: int) -> list[int]:
    """What transformers itself says, greedily, without the end token."""
    given = torch.tensor([ids])
    out = model.generate(given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=count)
    said = out[0, len(ids) :].tolist()
    return said[: said.index(EOS)] if EOS in said else said


def memory_of(model, ids: list[int], bias: float = 0.0) -> Prepared:
    """A memory whose columns are simply `ids` read before the chat, at positions 0, 1, 2 ..."""
    run = decode.Pass(model, len(ids))
    with torch.inference_mode():
        run.step(ids)
    keys = [layer.keys[:, :, : len(ids)].clone() for layer in run.cache.layers]
    values = [layer.values[:, :, : len(ids)].clone() for layer in run.cache.layers]
    return Prepared(keys, values, torch.full((len(ids),), bias), start=len(ids))


def close(one, other) -> bool:
    return torch.allclose(one, other, atol=2e-5)


def test_without_memory_every_token_is_the_one_transformers_says(tiny_base):
    for model in models(tiny_base).values():
        for prompt in (PROMPT, PROMPT[:3], PROMPT[::-1]):
            assert run(model, prompt, stop_ids=frozenset({EOS})) == reference(model, prompt, 40)


def test_the_real_base_says_what_transformers_says(real_base):
    ids = real_base.prompt([{"role": "user", "content": "Name three rivers."}])
    said = list(real_base.generate(ids, max_tokens=24))
    given = torch.tensor([ids])
    out = real_base.model.generate(given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=24)
    assert [token for token in out[0, len(ids) :].tolist() if token not in real_base.stop_ids] == said


@pytest.mark.parametrize("kind", ["llama", "mixed", "sliding"])
def test_the_cache_gives_what_recomputing_gives(tiny_base, kind):
    model = models(tiny_base)[kind]
    with torch.inference_mode():
        whole = model(torch.tensor([PROMPT])).logits
        stepped = decode.Pass(model, len(PROMPT))
        parts = [stepped.step(PROMPT[:10], last=10), *(stepped.step([t], last=1) for t in PROMPT[10:])]
    assert close(torch.cat(parts, dim=1), whole)
    assert close(decode.forward(model, PROMPT), whole)
    assert close(decode.forward(model, PROMPT, last=3), whole[:, -3:])


def test_a_memory_read_in_full_is_the_text_before_the_chat(tiny_base):
    before, model = list(b"Rex is a dog. "), tiny_base.model
    memory = memory_of(model, before)
    assert close(decode.forward(model, PROMPT, memory), decode.forward(model, before + PROMPT)[:, len(before) :])
    assert run(model, memory=memory) == run(model, before + PROMPT)


def test_memory_columns_stay_visible_beyond_a_sliding_window():
    model, before = sliding("mixed"), list(b"Rex is a dog.")
    read, unread = (decode.forward(model, PROMPT, memory_of(model, before, bias)) for bias in (0.0, -1e4))
    assert not close(read[:, -1], unread[:, -1])
    stepped = decode.Pass(model, len(PROMPT), memory_of(model, before))
    with torch.inference_mode():
        parts = [stepped.step(PROMPT[:10], last=10), *(stepped.step([t], last=1) for t in PROMPT[10:])]
    assert close(torch.cat(parts, dim=1), read)


def test_what_was_said_is_covered_from_then_on(tiny_base):
    """The reply's own words weigh less once they are said, token by token as in one pass; the prompt covers nothing."""
    before, model, prompt, reply = list(b"Rex is a dog. "), tiny_base.model, PROMPT, list(b"Rex!")
    memory = memory_of(model, before)
    memory.tokens = torch.tensor([id if chr(id).isalpha() else -1 for id in before])
    plain = decode.forward(model, prompt + reply, memory, last=len(reply) + 1)
    memory.coverage = 3.0
    whole = decode.forward(model, prompt + reply, memory, last=len(reply) + 1)
    stepped = decode.Pass(model, len(prompt + reply), memory, len(prompt))
    with torch.inference_mode():
        parts = [stepped.step(prompt, last=1), *(stepped.step([id], last=1) for id in reply)]
    assert close(torch.cat(parts, dim=1), whole)
    assert close(whole[:, 0], plain[:, 0]) and not close(whole[:, 1], plain[:, 1])
    expected = torch.tensor([-3.0 if chr(id) in "Rex" else 0.0 for id in before])
    assert torch.equal(stepped.row[: len(before)], expected)
    assert close(
        decode.forward(model, prompt + reply, memory), decode.forward(model, prompt + reply, memory_of(model, before))
    )


def test_a_reply_ends_when_each_item_was_come_to(tiny_base, monkeypatch):
    end, also = EOS, ord("&")
    memory = memory_of(tiny_base.model, list(b"Rex"))
    memory.items, memory.ends, memory.going_on = (
        tuple(map(frozenset, (b"tea", b"sugar", b"milk"))),
        frozenset(b"."),
        also,
    )

    def logits(going_on: float) -> torch.Tensor:
        return torch.zeros(1, 259).index_fill(1, torch.tensor([also]), going_on)

    def say(text: bytes, prompt: bytes = b"?", going_on_by: float = 0.0, **changes) -> bytes:
        listing = decode.Listing(replace(memory, **changes), prompt, frozenset({end}))
        return bytes(listing(token, logits(going_on_by)) for token in text)

    assert say(b"t.m.s..") == b"t&m&s.."  # and no more than that
    assert say(b"t.x.y.z.") == b"t&x&y.z."  # once for each further item, whatever comes
    assert say(b".t.") == b".t&"  # nothing is said yet
    assert say(b"t.m.", prompt=b"sugar?") == b"t&m."  # what the prompt says tells nothing
    assert say(b"t.m.", items=memory.items[:1]) == say(b"t.m.", going_on=None) == b"t.m."
    assert say(b"t.m.s..", going_on_by=-decode.RELUCTANT) == b"t&m&s.."
    assert say(b"t.m.s..", going_on_by=-decode.RELUCTANT - 0.1) == b"t.m.s.."  # this base would never have gone on
    assert decode.Listing(None, b"?", frozenset({end}))(end, logits(0)) == end
    listing = decode.Listing(memory, b"?", frozenset({end}))
    assert [listing(ord("t"), logits(0)), listing(end, logits(0))] == [ord("t"), also]
    plain = run(tiny_base.model, memory=replace(memory, items=()))
    ended = next(at for at, token in enumerate(plain) if at > 2 and token not in plain[:at])
    memory.items, memory.ends = (frozenset({plain[0]}), frozenset({end + 1})), frozenset({plain[ended]})
    monkeypatch.setattr(decode, "RELUCTANT", float("inf"))
    assert run(tiny_base.model, memory=memory)[: ended + 1] == [*plain[:ended], also]


def test_a_reply_that_goes_on_has_covered_what_it_said(tiny_base):
    """It is prepared anew when a memory changes meanwhile, and goes on as if it had been spoken in one go."""
    memory = memory_of(tiny_base.model, list(b"Rex is a dog. "))
    memory.tokens, memory.coverage = torch.tensor(run(tiny_base.model, memory=memory)[:14]), 8.0
    memory.items, memory.ends, memory.going_on = (frozenset(b"tea"), frozenset(b"milk")), frozenset(b"."), ord("&")
    whole = run(tiny_base.model, memory=memory)
    alone = []
    for count in range(1, 8):
        begun = PROMPT + whole[:count]
        on = run(tiny_base.model, begun, memory=replace(memory, begun=count), max_tokens=len(whole) - count)
        assert on == whole[count:]
        alone.append(run(tiny_base.model, begun, memory=memory, max_tokens=len(whole) - count) == on)
    assert not all(alone)
    listing = decode.Listing(replace(memory, begun=1), b"?t", frozenset({EOS}))
    assert listing.begun and listing.unsaid == [frozenset(b"milk")]


def test_a_memory_of_weight_zero_is_not_seen(tiny_base):
    memory = memory_of(tiny_base.model, list(b"Rex is a dog. "), bias=float("-inf"))
    memory.start = 0
    assert close(decode.forward(tiny_base.model, PROMPT, memory), decode.forward(tiny_base.model, PROMPT))


def test_more_weight_moves_the_reply_further(tiny_base):
    alone = decode.forward(tiny_base.model, PROMPT)[:, -1]
    far = []
    for bias in (-6.0, -3.0, 0.0):
        memory = memory_of(tiny_base.model, list(b"Rex is a dog. "), bias)
        memory.start = 0
        far.append((decode.forward(tiny_base.model, PROMPT, memory)[:, -1] - alone).norm().item())
    assert far == sorted(far) and far[0] < far[-1]


def test_adapters_are_on_during_forwards_only(tiny_base):
    opened = []

    class Active:
        def __enter__(self):
            opened.append(True)

        def __exit__(self, *_):
            opened.append(False)

    memory = memory_of(tiny_base.model, [1, 2])
    memory.active = Active
    for _ in decode.generate(tiny_base.model, PROMPT, context=512, max_tokens=3, memory=memory):
        assert opened[-1] is False
    assert opened == [True, False] * 3


def test_a_memory_of_another_base_is_refused(tiny_base):
    memory = memory_of(tiny_base.model, [1, 2, 3])
    memory.keys, memory.values = memory.keys[:1], memory.values[:1]
    with pytest.raises(WeightsError, match="another base"):
        run(tiny_base.model, memory=memory)
    memory = memory_of(tiny_base.model, [1, 2, 3])
    memory.keys = [keys[..., :4] for keys in memory.keys]
    with pytest.raises(WeightsError, match="another base"):
        run(tiny_base.model, memory=memory)


def test_stop_ends_computing_within_one_token(tiny_base, monkeypatch):
    stop, steps = threading.Event(), []
    step = decode.Pass.step
    monkeypatch.setattr(decode.Pass, "step", lambda self, ids, last=None: steps.append(1) or step(self, ids, last))
    said = []
    for token in decode.generate(tiny_base.model, PROMPT, context=512, max_tokens=40, stop=stop):
        said.append(token)
        if len(said) == 5:
            stop.set()
    assert len(said) == len(steps) == 5


def test_nothing_is_computed_when_stopped_before_the_first_token(tiny_base, monkeypatch):
    stop = threading.Event()
    stop.set()
    monkeypatch.setattr(decode.Pass, "step", lambda *_: pytest.fail("computed after stop"))
    assert run(tiny_base.model, stop=stop) == []


def test_it_stops_at_stop_tokens_the_limit_and_the_context(tiny_base):
    said = run(tiny_base.model)
    assert run(tiny_base.model, stop_ids=frozenset({said[7]})) == said[: said.index(said[7])]
    assert len(run(tiny_base.model, max_tokens=9)) == 9
    assert run(tiny_base.model, context=len(PROMPT) + 6) == said[:6]


def test_samples_repeat_with_their_seed(tiny_base):
    def sample(seed, top_p=0.95):
        return run(tiny_base.model, temperature=1.2, top_p=top_p, seed=seed)

    assert sample(1) == sample(1) != sample(2)
    assert sample(1, top_p=1e-6) == run(tiny_base.model)  # only the likeliest token is left
    assert run(tiny_base.model, temperature=1e-40) == run(tiny_base.model)


@pytest.mark.parametrize(
    ("ids", "options", "says"),
    [
        ([], {}, "empty"),
        (PROMPT, {"context": len(PROMPT)}, f"{len(PROMPT)} tokens"),
        (PROMPT, {"max_tokens": 0}, "max_tokens"),
        (PROMPT, {"temperature": -1}, "temperature"),
        (PROMPT, {"temperature": float("nan")}, "temperature"),
        (PROMPT, {"top_p": 0}, "top_p"),
        (PROMPT, {"top_p": 1.5}, "top_p"),
    ],
)
def test_impossible_requests_say_what_to_do(tiny_base, ids, options, says):
    with pytest.raises(InputError, match=says) as error:
        run(tiny_base.model, ids, **options)
    assert "\n" not in str(error.value)


def test_the_prompt_may_not_reach_into_the_memorys_positions(tiny_base):
    memory = memory_of(tiny_base.model, [1] * 20)
    with pytest.raises(InputError, match="shorten"):
        run(tiny_base.model, context=len(PROMPT) + 20, memory=memory)


@given(st.text(max_size=40))
def test_streamed_pieces_join_to_the_text(text):
    tokenizer = TOKENIZER
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = list(decode.text_stream(tokenizer, ids))
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)
    assert all(pieces) and all("\ufffd" not in piece for piece in pieces if "\ufffd" not in text)


def test_a_character_cut_off_by_the_end_is_shown_as_such():
    ids = TOKENIZER("né")["input_ids"][:-1]
    assert "".join(decode.text_stream(TOKENIZER, ids)) == "n\ufffd"


def test_a_base_with_layers_that_are_no_attention_talks_but_takes_no_memory(tiny_base):
    torch.manual_seed(0)
    mixed = Lfm2Config(**tiny_config(layer_types=["conv", "full_attention"]))
    model = AutoModelForCausalLM.from_config(mixed).eval()
    assert run(model, stop_ids=frozenset({EOS})) == reference(model, PROMPT, 40)
    with pytest.raises(WeightsError, match="use another base"):
        run(model, memory=memory_of(tiny_base.model, [1, 2]))


TOKENIZER = byte_tokenizer()
