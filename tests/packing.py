"""For tests of packs: a generator of a few rules for texts of a few words, and documents that it understands.

`echoing` and `quick` make packs on the tiny base that are verified, and learned in a second; `built` takes that once.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from fakes import Echo, rule_engine

from mam.engine import Engine
from mam.packs import build, store, training
from mam.packs.files import digest
from mam.packs.generators import Rules
from mam.packs.pack import Pack
from mam.packs.values import Document, Pair, Sentence
from mam.space import Space

KEPT = TemporaryDirectory(prefix="mam-packs-")  # of packs that are built once for many tests
TOWNS = {"Anna": "Oslo", "Berta": "Paris", "Carla": "Rome", "Dora": "Oslo", "Emma": "Cairo", "Frida": "Lima"}


class Template(Rules):
    """Understands "Anna lives in Oslo." and "She keeps goats."; what it was asked is in `asked`."""

    id = "template"

    def __init__(self):
        self.asked: list[str] = []

    def facts(self, text: str) -> list[Pair]:
        self.asked.append(text)
        last = re.split(r"(?<=\.) ", text)[-1]
        if found := re.fullmatch(r"(\w+) (lives in|keeps) (\w+)\.", last):
            who, does, what = found.groups()
            return [Pair(f"Who {does} {what}?", who), Pair(f"{who} {does} which?", what)]
        return []


def echoing(folder: Path) -> Engine:
    """A tiny base that says the slots it is given, with a memory of rules."""
    torch.set_num_threads(1)
    engine = rule_engine(folder)
    Echo(engine)
    return engine


def quick(monkeypatch, folder: Path) -> None:
    """Packs of the page have the tiny base, are written by rules, and learn a few answers by heart at a high rate."""
    monkeypatch.setattr("mam.base.DEFAULT", str(folder))
    monkeypatch.setattr(build, "open_generator", lambda *_: Template())
    monkeypatch.setattr(training, "LEAST", 1)
    monkeypatch.setattr(store.Settings.__init__, "__defaults__", (*store.Settings.__init__.__defaults__[:-1], 2e-2))


def built(m: Space, name: str, paths: list[Path], **how) -> Pack:
    """A pack, built when it is first asked for, and copied from then on: it would come out the same to the bit."""
    kept = Path(KEPT.name, digest([name, [(path.name, path.read_text()) for path in paths], how]))
    if not kept.exists():
        shutil.copytree(m.pack(name, *paths, **how).store.folder, kept)
    else:
        shutil.copytree(kept, m._packs_home / name)
    return m.open_pack(name)


def lives(*names: str) -> list[str]:
    return [f"{name} lives in {TOWNS[name]}." for name in names]


def document(name: str, *sentences: str) -> Document:
    return Document(name, tuple(Sentence(i, text, f"line {i}") for i, text in enumerate(sentences, 1)))


def written(folder: Path, **documents: list[str]) -> list[Path]:
    """Files with a sentence on each line."""
    folder.mkdir(exist_ok=True)
    paths = []
    for name, sentences in documents.items():
        paths.append(folder / f"{name}.txt")
        paths[-1].write_text("\n".join(sentences) + "\n", encoding="utf-8")
    return paths
