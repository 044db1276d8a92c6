"""The model card of a pack: what it was made of and with, what it reached, and what to know before using it."""

from __future__ import annotations

from mam.packs.files import write
from mam.packs.store import PackStore
from mam.packs.values import READY

CARD = """# Pack {name}

Knowledge of {documents} documents ({words:,} words) in low-rank adapters of {base} (weights {fingerprint}), made by
`python -m mam pack build`. Questions and answers were written by {generator}, kept only if the memory model of mam,
reading their source as slots, gave the same answer, and learned in at most {epochs} epochs with seed {seed}. No adapter
has seen a document of another shard.

| shard | documents | reflections | right, closed book | unanswerable declined | training set | adapter |
|---|---|---|---|---|---|---|
{shards}

"Right" is on questions that it was trained on. It answers other questions less often, and what it says may be wrong
without any sign of it: for what has to be exact, current or shown with its source, use slots.
"""


def write_card(store: PackStore) -> None:
    settings, documents = store.settings(), store.all_documents()

    def row(shard) -> str:
        right, declined = (f"{shard.figures[n]:.0%}" if n in shard.figures else "" for n in ("right", "declined"))
        names = ", ".join(name.replace("|", " ") for name in shard.documents)
        hashes = f"`{shard.training[:16]}` | `{shard.adapter[:16]}`"
        return f"| {shard.id} | {names} | {shard.reflections} | {right} | {declined} | {hashes} |"

    rows = "\n".join(row(shard) for shard in store.shards() if shard.state == READY)
    values = {name: getattr(settings, name) for name in ("base", "fingerprint", "generator", "epochs", "seed")}
    words = sum(document.words for document in documents)
    content = CARD.format(name=store.name, documents=len(documents), words=words, shards=rows, **values)
    write(store.folder / "README.md", content)
