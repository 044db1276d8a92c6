"""Where slots are on the maps, as rows: read, put, replaced. What the numbers mean is for `atlas` to know.

Works inside a transaction or a view that `store` opened. A place belongs to a slot, a memory model (its fingerprint:
other keys, other maps) and a number of dimensions; it goes with its slot, see `erasure`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import sqlalchemy as sa

from mam import rows
from mam.database import Transaction
from mam.schema import layouts, places, slots
from mam.values import Slot

BOUND = 500  # rows in one statement


@dataclass(frozen=True)
class Fit:
    """How a map was made."""

    method: str  # "UMAP" or "PCA"
    parameters: Mapping[str, object]
    at: datetime


@dataclass(frozen=True)
class Place:
    """Where one slot is."""

    version: int  # of the slot when it was put there
    anchor: bool  # part of the fit; others were placed among the anchors
    coordinates: np.ndarray  # (dimensions,) float64
    before: np.ndarray | None = None  # where it was until its text was edited


def read(connection: sa.Connection, fingerprint: str, dimensions: int) -> tuple[Fit | None, dict[str, Place]]:
    """How the map was made (None: not yet, or it is damaged) and the place of every slot on it."""
    row = connection.execute(sa.select(layouts).where(*_of(layouts, fingerprint, dimensions))).first()
    if row is None:
        return None, {}
    columns = (places.c.slot, places.c.version, places.c.anchor, places.c.coordinates, places.c.before)
    found = connection.execute(sa.select(*columns).where(*_of(places, fingerprint, dimensions))).all()
    try:
        fit = Fit(row.method, json.loads(row.parameters), datetime.fromisoformat(row.fitted))
        return fit, {
            id: Place(version, anchor, _array(at, dimensions), _array(then, dimensions))
            for id, version, anchor, at, then in found
        }
    except (ValueError, TypeError):
        return None, {}


def latest(connection: sa.Connection, dimensions: int) -> dict[str, Place]:
    """The places of the map that was made last, by whatever memory model; none if there is no map."""
    query = sa.select(layouts.c.fingerprint).where(layouts.c.dimensions == dimensions)
    fingerprint = connection.scalar(query.order_by(layouts.c.fitted.desc()).limit(1))
    return read(connection, fingerprint, dimensions)[1] if fingerprint else {}


def versions(connection: sa.Connection) -> dict[str, int]:
    """The version of every slot in any state, in the order they were told."""
    return dict(connection.execute(sa.select(slots.c.id, slots.c.version).order_by(slots.c.seq)).all())


def put(tx: Transaction, fingerprint: str, dimensions: int, of: Sequence[Slot], found: Sequence[Place]) -> None:
    """Keep places of these slots; one whose slot was purged or edited while it was made is left out."""
    same = {"fingerprint": fingerprint, "dimensions": dimensions}
    for start in range(0, len(of), BOUND):
        part = of[start : start + BOUND]
        ids = [slot.id for slot in part]
        texts = dict(tx.execute(sa.select(slots.c.id, slots.c.text).where(slots.c.id.in_(ids))).all())
        made = [
            {"slot": slot.id, "version": place.version, "anchor": place.anchor, **same}
            | {"coordinates": _bytes(place.coordinates), "before": _bytes(place.before)}
            for slot, place in zip(part, found[start : start + BOUND], strict=True)
            if texts.get(slot.id) == slot.text
        ]
        tx.execute(places.delete().where(places.c.slot.in_(ids), *_of(places, fingerprint, dimensions)))
        if made:
            tx.execute(places.insert(), made)


def replace(
    tx: Transaction, fingerprint: str, dimensions: int, fit: Fit, of: Sequence[Slot], coordinates: Iterable[np.ndarray]
) -> None:
    """Keep a new map in place of the old one; all its points are anchors. Every page notices: a new data version."""
    tx.execute(places.delete().where(*_of(places, fingerprint, dimensions)))
    tx.execute(layouts.delete().where(*_of(layouts, fingerprint, dimensions)))
    row = {"fingerprint": fingerprint, "dimensions": dimensions, "method": fit.method, "fitted": rows.to_text(fit.at)}
    tx.execute(layouts.insert().values(row | {"parameters": json.dumps(dict(fit.parameters))}))
    found = [Place(slot.version, True, at) for slot, at in zip(of, coordinates, strict=True)]
    put(tx, fingerprint, dimensions, of, found)
    tx.next_version()


def _of(table: sa.Table, fingerprint: str, dimensions: int) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.fingerprint == fingerprint, table.c.dimensions == dimensions


def _bytes(coordinates: np.ndarray | None) -> bytes | None:
    return None if coordinates is None else np.asarray(coordinates, dtype="<f8").tobytes()


def _array(value: bytes | None, dimensions: int) -> np.ndarray | None:
    return None if value is None else np.frombuffer(value, dtype="<f8").reshape(dimensions)
