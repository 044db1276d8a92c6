"""store: what keeping costs, from 1,000 to 100,000 slots: open, list, edit, add, look back, purge, memory.

All through a space with the real encoder, as a person would do it; only the filling of the store is done with random
keys, because encoding 100,000 fillers would take longer than everything that is measured. The file lies in a temporary
folder of the same disk as other temporary files; every write waits for that disk.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mam import exchange, places
from mam.bench import common
from mam.bench.scoring import spread
from mam.places import Fit
from mam.space import Space
from mam.store import Store, new_id
from mam.values import USER, Slot

SIZES = (1_000, 10_000, 100_000)
ADDED = 1_000  # slots of the timed bulk import
TIMES = 20  # repetitions of what is quick
OPENINGS, PURGES = 3, 5
PAGE = 50  # slots
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gia", "Hugo", "Ida", "Jon", "Kim", "Leo", "Mia", "Noa", "Ole")
PLACES = ("Oslo", "Rome", "Lima", "Cairo", "Delhi", "Perth", "Quito", "Riga", "Seoul", "Turin", "Vienna", "Zurich")
DEEDS = ("moved to", "works in", "flew to", "was born in", "has a shop in", "wants to see", "met an aunt in")


def run(world: common.World, settings: common.Settings) -> dict:
    """Every size; the figures of the largest stand on top, with what they were at the others under "growth"."""
    sizes = (settings.limit,) if settings.limited else SIZES
    growth = {str(size): _measured(world, settings, size) for size in tqdm(sizes, desc="store", dynamic_ncols=True)}
    return {**growth[str(sizes[-1])], "slots": sizes[-1], "growth": growth}


def _measured(world: common.World, settings: common.Settings, size: int) -> dict:
    draw = random.Random(settings.seed)
    with common.temporary() as folder:
        fill(folder, world, size, draw)
        _lay_out(folder, world)
        with common.peak_memory() as memory:
            opening, reading = zip(*(_open_and_read(folder, world) for _ in range(OPENINGS)), strict=True)
            with _opened(folder, world) as space:
                figures = _figures(space, folder, draw, settings)
        file = sum(part.stat().st_size for part in folder.glob("memory-*"))
    return {
        "open_s": spread(opening)["median"],  # until the first page is listed
        "first_read_s": spread(reading)["median"],  # of a space just opened, which reads the words of all
        **figures,
        "peak_mib": memory["peak"],  # of the whole process, networks included
        "grown_mib": memory["grown"],  # of that, since the store was opened
        "file_mib": round(file / 2**20, 1),
    }


def _open_and_read(folder: Path, world: common.World) -> tuple[float, float]:
    start = time.perf_counter()
    with _opened(folder, world) as space:
        opened = time.perf_counter() - start
        return opened, _timed(lambda: space.read("Where does Ada live?"))[0]


@contextmanager
def _opened(folder: Path, world: common.World) -> Iterator[Space]:
    with world.open(folder) as space:
        space.slots(limit=PAGE, newest_first=True)
        yield space


def _figures(space: Space, folder: Path, draw: random.Random, settings: common.Settings) -> dict:
    count, times = space.count(), settings.capped(TIMES)
    some = draw.choices(sorted(space.store.ids()), k=times)
    pages = _times(times, lambda n: space.slots(limit=PAGE, offset=draw.randrange(count), newest_first=True))
    finds = _times(times, lambda n: space.slots(find=draw.choice(PLACES), limit=PAGE))
    edits = _times(times, lambda n: space.edit(some[n], f"{_sentence(draw)} {n} years ago."))
    single = _times(times, lambda n: space.add(f"{_sentence(draw)} {n} days ago."))
    new = [_slot(_sentence(draw), number) for number in range(settings.capped(ADDED))]
    exchange.export(exchange.Exported(new), folder / "new.jsonl", "local")
    bulk, added = _timed(lambda: space.import_(folder / "new.jsonl"))
    (folder / "new.jsonl").unlink()
    past = _times(times, lambda n: space.slots(as_of=space.version() - n, limit=PAGE))
    gone = draw.sample(sorted(space.store.ids()), 2 * settings.capped(PURGES))
    purges = _times(len(gone) // 2, lambda n: space.store.purge_slots([gone[n]]))
    space.refresh()
    checked = _times(len(gone) // 2, lambda n: space.purge(gone[-1 - n]))
    milliseconds = {"page_ms": pages, "find_ms": finds, "edit_ms": edits, "add_one_ms": single, "as_of_ms": past}
    spreads = {name: spread(values, 1000, 2) for name, values in milliseconds.items()}
    spreads["purge_s"] = spread(purges, digits=3)
    spreads["purge_checked_s"] = spread(checked, digits=3)  # with the base asked whether it still knows it
    return {
        **{name: values["median"] for name, values in spreads.items()},
        "add_ms": round(1000 * bulk / len(added), 2),  # each, in a bulk, with its key
        "spread": spreads,
    }


def fill(folder: Path, world: common.World, size: int, draw: random.Random | None = None) -> None:
    """Slots told a minute apart until now, with random unit keys of the memory model's fingerprint."""
    draw, store, memory = draw or random.Random(0), Store(folder), world.memory
    keys = np.random.default_rng(0)
    for start in range(0, size, 5_000):
        part = [_slot(_sentence(draw), size - number) for number in range(start, min(start + 5_000, size))]
        rows = keys.standard_normal((len(part), memory.dim), dtype=np.float32)
        store.add_slots(part, rows / np.linalg.norm(rows, axis=1, keepdims=True), memory.fingerprint)
    store.close()


def _lay_out(folder: Path, world: common.World) -> None:
    """Maps, as anybody has who once looked at them: a purge has to take the places of a slot, too."""
    store, draw = Store(folder), np.random.default_rng(1)
    slots = store.slots()
    for dimensions in (2, 3):
        fit, at = Fit("UMAP", {"n": len(slots)}, datetime.now(UTC)), draw.standard_normal((len(slots), dimensions))
        with store.atomic() as tx:
            places.replace(tx, world.memory.fingerprint, dimensions, fit, slots, at)
    store.close()


def _slot(text: str, minutes: int) -> Slot:
    return Slot(new_id(), text, text, USER, datetime.now(UTC) - timedelta(minutes=minutes))


def _sentence(draw: random.Random) -> str:
    who, where = f"{draw.choice(NAMES)} {draw.choice(NAMES)}", draw.choice(PLACES)
    return (
        f"My friend {who} {draw.choice(DEEDS)} {where} in {draw.randrange(1950, 2026)}, note {draw.randrange(10**7)}."
    )


def _timed(do: Callable) -> tuple[float, object]:
    start = time.perf_counter()
    result = do()
    return time.perf_counter() - start, result


def _times(count: int, do: Callable[[int], object]) -> list[float]:
    return [_timed(lambda number=number: do(number))[0] for number in range(count)]
