"""The memory model's parts on tiny, untrained networks: what must hold whatever the weights are."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mam import decode
from mam.index import SlotIndex, words
from mam.integrator import Integrator, IntegratorConfig
from mam.lowrank import LowRank
from mam.reader import LOOK, Reader, Reading, Thresholds, best, looked_at
from mam.reranker import Found, Judgement, Reranker
from mam.train.batch import Example, answer_logits
from mam.values import SAYS_WHO, Read, Slot

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def slot(id: str, text: str, speaker: str = "user", days: float = 0) -> Slot:
    return Slot(id=id, text=text, said=text, speaker=speaker, told=NOW - timedelta(days=days))


@pytest.fixture(scope="module")
def integrator(tiny_base) -> Integrator:
    torch.manual_seed(1)
    module = Integrator(tiny_base, IntegratorConfig(base=tiny_base.fingerprint, prefix=4, rank=2))
    with torch.no_grad():  # an untrained update is zero: make it matter
        for b in module.adapters.b:
            b.normal_(std=0.5)
    return module


def logits(integrator: Integrator, reads: list[Read], text: str = "What is my dog called?") -> torch.Tensor:
    ids = integrator.base.prompt([{"role": "user", "content": text}])
    return decode.forward(integrator.base.model, ids, integrator.prepare(reads))[0]


REX, OSLO = slot("a", "My dog is called Rex."), slot("b", "I live in Oslo.")


def test_low_rank_updates_leave_no_trace_when_off():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
    x = torch.randn(3, 8)
    plain, update = network(x), LowRank(network, r"^(0|2)$", rank=2)
    update.b[0].data.normal_()
    with update.active():
        changed = network(x)
    assert not torch.allclose(plain, changed)
    assert torch.equal(network(x), plain)
    update.fold()
    assert torch.allclose(network(x), changed, atol=1e-5)


def test_a_weight_of_zero_is_a_deleted_slot(integrator):
    with_zero = logits(integrator, [Read(REX, 0.7), Read(OSLO, 0.0)])
    without = logits(integrator, [Read(REX, 0.7)])
    assert torch.equal(with_zero, without)


def test_read_weights_are_causal(integrator):
    heavy, light = logits(integrator, [Read(REX, 0.9)]), logits(integrator, [Read(REX, 0.001)])
    assert not torch.allclose(heavy, light, atol=1e-3)


def test_the_order_of_slots_does_not_matter(integrator):
    one = logits(integrator, [Read(REX, 0.6), Read(OSLO, 0.2)])
    other = logits(integrator, [Read(OSLO, 0.2), Read(REX, 0.6)])
    assert torch.allclose(one, other, atol=1e-4)


def test_a_cached_block_equals_a_fresh_one(integrator):
    first = logits(integrator, [Read(REX, 0.6)])
    again = logits(integrator, [Read(REX, 0.6)])
    integrator.forget(REX.text)
    assert torch.equal(first, again)
    assert torch.equal(first, logits(integrator, [Read(REX, 0.6)]))


def test_forget_drops_the_block(integrator):
    integrator.block("My dog is called Rex.")
    integrator.forget("My dog is called Rex.")
    assert not any("Rex" in text for text in integrator._blocks)


def test_training_sees_what_the_token_loop_sees(integrator, monkeypatch):
    base = integrator.base
    monkeypatch.setattr("mam.integrator.SHORTEST_WORD", 1)  # the tiny base's tokens are bytes
    monkeypatch.setattr(integrator, "_words", {})
    prompt = tuple(base.prompt([{"role": "user", "content": "Where do I live?"}]))
    answer = tuple(base.tokenizer("In Oslo.")["input_ids"])
    reads = [Read(REX, 0.2), Read(OSLO, 0.7)]
    example = Example((REX.text, OSLO.text), tuple(np.log([0.2, 0.7])), prompt, answer)
    other = Example((REX.text,), (0.0,), prompt[:9], answer[:3])  # of other lengths: padding must not matter
    with torch.no_grad():
        trained, targets = answer_logits(integrator, [other, example])
    memory = integrator.prepare(reads)
    assert (memory.tokens[integrator.config.prefix :] >= 0).sum() == sum(c.isalpha() for c in REX.text + OSLO.text)
    used = decode.forward(base.model, [*prompt, *answer[:-1]], memory, last=len(answer))[0]
    assert targets.tolist() == [*answer[:3], *answer]
    assert torch.allclose(trained[3:], used, atol=1e-3)


def test_the_base_is_untouched(integrator):
    before = integrator.base.weights_hash()
    ids = integrator.base.prompt([{"role": "user", "content": "Hello"}])
    alone = list(integrator.base.generate(ids, max_tokens=8))
    list(integrator.base.generate(ids, max_tokens=8, memory=integrator.prepare([Read(REX, 0.9)])))
    assert list(integrator.base.generate(ids, max_tokens=8)) == alone
    assert integrator.base.weights_hash() == before


# ---- index and reader -----------------------------------------------------------------------------------------


def filled(texts: list[str], dim: int = 8) -> tuple[SlotIndex, np.ndarray]:
    random = np.random.default_rng(0)
    keys = random.normal(size=(len(texts), dim)).astype(np.float32)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    index = SlotIndex(dim)
    index.add([slot(str(i), t, days=i) for i, t in enumerate(texts)], keys)
    return index, keys


def read(index: SlotIndex, odds: list[float], asked: float = 0.0) -> Reading:
    """A reading by an untrained reader whose second look finds these log-odds, in the order of the first look."""
    torch.manual_seed(0)
    limits = Thresholds(asked=asked, glance=0.0)
    second_look = lambda found: [Judgement(np.array(odds[: len(f.texts)], np.float32)) for f in found]  # noqa: E731
    return Reader(width=16, dim=8).read("fact 3", np.ones(16, np.float32), index, 8, NOW, limits, second_look)


def test_words_are_stems_without_stop_words():
    assert words("My dogs are running to the shop") == words("dog run shop")


def test_overlap_is_a_share_of_the_query():
    index, _ = filled(["My dog is called Rex", "I live in Oslo", "My sister is a nurse"])
    overlap = index.evidence("dog Rex", NOW)[:, 0]
    assert overlap[0] == pytest.approx(1.0) and overlap[1] == overlap[2] == 0


def test_recency_and_speaker_are_seen():
    index, keys = filled(["I live in Oslo", "I like tea"])
    index.add([slot("c", "We had lunch", speaker="Anna")], keys[:1])
    evidence = index.evidence("What did Anna say to me?", NOW)
    assert evidence[0, 1] > evidence[1, 1]  # told today, told yesterday
    assert evidence[:, 2].tolist() == [1, 1, 1]  # "me" speaks of the user, "Anna" of Anna
    assert index.evidence("What did Anna say?", NOW)[:, 2].tolist() == [0, 0, 1]


def test_removed_slots_are_never_found_and_rows_are_repacked():
    index, keys = filled([f"fact number {i}" for i in range(300)])
    for i in range(0, 300, 2):
        index.remove(str(i))
    assert len(index) == 150 and len(index.slots) < 300
    found = [s.id for s, _ in index.nearest(keys[0], 300)]
    assert sorted(map(int, found)) == list(range(1, 300, 2))
    assert index.nearest(keys[7], 1)[0][0].id == "7"


def test_a_slot_added_again_is_replaced():
    index, keys = filled(["I live in Oslo", "I like tea"])
    index.add([slot("0", "I live in Rome")], keys[:1])
    assert len(index) == 2 and index.get("0").text == "I live in Rome"
    assert index.evidence("Oslo", NOW)[:, 0][index.alive].max() == 0


def test_weights_and_null_sum_to_one():
    torch.manual_seed(0)
    index, _ = filled([f"fact {i}" for i in range(30)])
    reading = read(index, [0.5 * (i % 5) for i in range(8)])
    assert sum(r.weight for r in reading.reads) + reading.null_weight == pytest.approx(1, abs=1e-5)
    assert [r.weight for r in reading.reads] == sorted((r.weight for r in reading.reads), reverse=True)
    assert set(reading.reads[0].parts) == {"meaning", "words", "recency", "speaker", "second look"}


def test_several_slots_can_be_right_at_once():
    index, _ = filled([f"fact {i}" for i in range(30)])
    reading = read(index, [5, -5, 5, -5, -5, -5, -5, -5])
    assert [r.given for r in reading.reads[:3]] == [True, True, False] and reading.decision == "read"
    assert reading.reads[0].weight == pytest.approx(reading.reads[1].weight)


def test_sure_and_surer_share_alike():
    index, _ = filled([f"fact {i}" for i in range(30)])
    first, second, third, *_ = (r.weight for r in read(index, [3, 6, 0, -5, -5, -5, -5, -5]).reads)
    assert 0.4 < second < first < 0.6 and third < first / 3


def test_nothing_that_helps_is_read():
    index, _ = filled([f"fact {i}" for i in range(30)])
    reading = read(index, [-5] * 8)
    assert reading.decision == "abstain" and not any(r.given for r in reading.reads)
    assert read(index, [-5] * 8, asked=1.1).decision == "alone"


def test_a_question_before_or_behind_a_long_text_is_looked_at():
    text = "The night train was late again. " * 30
    for message in (f"{text}\n\nWhat is my dog called?", f"What is my dog called? {text}"):
        parts = looked_at(message)
        assert "What is my dog called?" in parts and parts[0] == message[:LOOK] and len(parts) <= 3
        assert all(len(part) <= LOOK for part in parts)
    assert looked_at("What is my dog called?") == ("What is my dog called?",)
    assert looked_at("a" * 10_000) == ("a" * LOOK,) and looked_at("?" * 10_000) == ("?" * LOOK,)


def test_of_several_readings_the_one_that_finds_something_counts():
    found, asked, nothing = (Reading((), *how) for how in ((0.4, 0.5, "read"), (0.9, 0.5, "abstain"), (1, 0, "alone")))
    assert best([nothing, asked, found]) is found and best([asked, nothing]) is asked
    assert best([found, surer := replace(found, null_weight=0.1)]) is surer


def test_an_empty_memory_reads_nothing():
    reading = read(SlotIndex(8), [])
    assert reading.reads == () and reading.null_weight == 1.0 and reading.decision == "abstain"


# ---- the second look -----------------------------------------------------------------------------------------------


class Scripted(Reranker):
    """A reranker whose log-odds are a function of message and slot text; it remembers what it was asked."""

    def __init__(self, odds):
        super().__init__(SimpleNamespace(width=4))
        self.says, self.asked = odds, []

    def odds(self, messages, slots, first):
        self.asked.append(list(messages))
        return np.array([self.says(m, s) for m, s in zip(messages, slots, strict=True)], np.float32)


def test_who_is_meant_leads_to_the_answer():
    def says(message: str, slot: str) -> tuple[float, float]:
        if slot == "Ngozi is my sister.":
            return -4, 3
        return (2 if "(Ngozi is my sister.)" in message and "sister" in slot else -4), -3

    head = Scripted(says)
    texts = ["Ngozi is my sister.", "My sister has a tattoo.", "My son has a tattoo."]
    found = [Found("What tattoo does Ngozi have?", texts, [0, 0, 0]), Found("And my son?", texts[2:], [0])]
    named, other = head.judge(found)
    assert named.who == 0 and named.odds.tolist() == [2, 2, -4]  # reading it helps as much as what it leads to
    assert other.who is None and other.odds.tolist() == [-4]
    assert head.asked[1] == ["What tattoo does Ngozi have? (Ngozi is my sister.)"] * 3  # once more, that message alone


def test_who_is_meant_answers_nothing_by_itself():
    head = Scripted(lambda message, slot: (-4, 3) if slot == "Ngozi is my sister." else (-5, -3))
    (judged,) = head.judge([Found("Where does Ngozi live?", ["I live in Oslo.", "Ngozi is my sister."], [0, 0])])
    assert judged.who == 1 and judged.odds.max() < -3


def test_a_reply_comes_to_each_slot_that_answers(real_base):
    """Not to one that only says who is meant, nor to one that hardly counts."""
    told = ["I like dark chocolate.", "I like red wine.", "Tom is my brother.", "I like walks."]
    integrator = Integrator(real_base, IntegratorConfig(real_base.fingerprint))

    def items(*weights: float) -> list[str]:
        reads = [Read(slot(text, text), weight) for text, weight in zip(told, weights, strict=False)]
        reads[2:3] = [replace(read, parts={SAYS_WHO: 1.0}) for read in reads[2:3]]
        found = integrator.prepare(reads)
        assert real_base.decode([found.going_on]).strip() == "and" and found.ends & found.items[0] == set()
        return ["".join(sorted(real_base.decode([token]).strip() for token in item)) for item in found.items]

    assert items(0.5, 0.3, 0.2) == ["chocolatedark", "redwine"]
    assert items(0.5, 0.3, 0.2, 0.03) == ["chocolatedark", "redwine"]
    assert items(0.5, 0.3, 0.2, 0.3) == ["chocolatedark", "redwine", "walks"]
