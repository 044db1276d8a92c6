"""A memory of 100,000 slots stays quick. The encoder is a stand-in: `bench store` measures with the real one."""

from __future__ import annotations

import torch
from fakes import rule_engine

from mam.bench import common, store

LIMITS = {"open_s": 2, "page_ms": 50, "find_ms": 100, "edit_ms": 50, "add_ms": 20, "purge_s": 1}


def test_a_hundred_thousand_slots(tiny_folder, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(store, "SIZES", (100_000,))
    monkeypatch.setattr(store, "TIMES", 7)
    results = store.run(common.World(rule_engine(tiny_folder)), common.Settings())
    slow = {name: results[name] for name, limit in LIMITS.items() if results[name] > limit}
    assert slow == {}, results
