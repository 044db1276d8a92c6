"""Maps of a memory: where its slots are in two or three dimensions, so that what is alike lies together.

A map is fitted once and then stays: a slot that comes later is *placed* among its true nearest neighbours, and no
other point moves. UMAP's own `transform` is not used for that, because where it puts a slot depends on which others
are put at the same time (lmcinnes/umap#158). Only when at least half of the points were placed, or when somebody asks,
is the map fitted anew, beginning at the old one and turned, mirrored, scaled and shifted to it (Procrustes), so that
it stays recognisable. Below FEW slots there is nothing for UMAP to find, and PCA draws the map.

The coordinates are kept beside the keys (see `places`) and obey the same promises: of this memory model alone, gone
with a purge. Works on a `space`; `fitted`, `placed` and `aligned` are pure functions of arrays.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from mam import places
from mam.errors import InputError, MamError, StoreError
from mam.places import Fit, Place
from mam.values import Slot

if TYPE_CHECKING:
    from mam.space import Space

FEW = 15  # slots; fewer are drawn by PCA
PARAMETERS = {"n_neighbors": 15, "min_dist": 0.1, "seed": 0}  # of UMAP
BESIDE = 8  # true nearest neighbours among which a new slot is placed
SHARP = 0.05  # of the weights of these: a neighbour whose cosine is less by this counts 1/e as much
CHUNK = 1024  # rows of similarities held at once

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """A map: coordinates of every slot, in any state, in the order they were told."""

    ids: tuple[str, ...]
    coordinates: np.ndarray  # (slots, dimensions) float64
    method: str  # "UMAP" or "PCA"
    parameters: Mapping[str, object]  # "n": slots in the fit; for UMAP n_neighbors, min_dist, metric and seed, too
    fitted_at: datetime | None  # None: there are no slots
    placed: int = 0  # slots put among the others since the fit
    before: Mapping[str, np.ndarray] = field(default_factory=dict)  # where slots edited since the fit were, by id
    due: bool = False  # a sketch, or too much was placed since the fit: a new fit would be better
    fitting: bool = False  # and is being made
    failure: str = ""  # why the last new fit could not be made


class Atlas:
    """The maps of one space. Safe to share between threads; slots that change meanwhile are placed at the next look."""

    def __init__(self, space: Space):
        self._space = space
        self._looking = threading.Lock()
        self._one_fit = threading.Lock()  # two fits at once would take turns at the same cores
        self._fitting: set[int] = set()
        self._failures: dict[int, str] = {}
        self._closed = False

    def close(self) -> None:
        """A fit that is under way ends without being kept."""
        self._closed = True

    def layout(self, dimensions: int, wait: bool) -> Layout:
        """See `Space.layout`."""
        _checked(dimensions)
        with self._looking:
            found = self._current(dimensions)
        if not found.due:
            return found
        if wait:
            return self.refit(dimensions)
        if dimensions not in self._fitting and dimensions not in self._failures:
            self.refit_later(dimensions)
        return replace(found, fitting=dimensions in self._fitting, failure=self._failures.get(dimensions, ""))

    def refit(self, dimensions: int, **parameters) -> Layout:
        """See `Space.refit`."""
        _checked(dimensions, **parameters)
        with self._looking:
            before = self._current(dimensions)
        parameters = {name: value for name, value in before.parameters.items() if name in PARAMETERS} | parameters
        with self._one_fit:
            slots, keys = self._slots_and_keys()
            if slots:
                self._fit(dimensions, slots, keys, before, parameters)
        self._failures.pop(dimensions, None)
        with self._looking:
            return self._current(dimensions)

    def refit_later(self, dimensions: int) -> None:
        """Fit anew in the background; the data version grows when it is done. What went wrong is in the layout."""
        _checked(dimensions)
        with self._looking:
            begun = dimensions in self._fitting
            self._fitting.add(dimensions)
            self._failures.pop(dimensions, None)
        if not begun:
            threading.Thread(target=self._refit_quietly, args=(dimensions,), daemon=True, name="map").start()

    def _refit_quietly(self, dimensions: int) -> None:
        try:
            self.refit(dimensions)
        except MamError as error:
            self._failures[dimensions] = str(error)
        except Exception as error:  # said beside the map instead of fitting for ever
            log.exception("the map could not be fitted")
            self._failures[dimensions] = f"The map could not be made ({error}); the terminal has the details."
        finally:
            self._fitting.discard(dimensions)

    # -- what there is, with a place for every slot -----------------------------------------------------------------

    def _current(self, dimensions: int) -> Layout:
        """The kept map, with new and edited slots placed; a sketch by PCA if there is none to place them on."""
        fit, known, now = self._read(dimensions)
        anchors = [id for id, place in known.items() if place.anchor and now.get(id) == place.version]
        few = 2 * len(anchors) <= len(now) < FEW
        if now and (not anchors or few):
            fit, known = self._sketch(dimensions, known)
            now = {id: version for id, version in now.items() if id in known}
            anchors = list(known)
        fresh = [id for id, version in now.items() if id not in known or known[id].version != version]
        if fresh:
            known = known | self._place(dimensions, fit, known, anchors, fresh)
            now = {id: version for id, version in now.items() if id in known}
        return _layout(dimensions, fit, {id: known[id] for id in now})

    def _read(self, dimensions: int) -> tuple[Fit | None, dict[str, Place], dict[str, int]]:
        with self._space.store.database.reading() as connection:
            fit, known = places.read(connection, self._space.engine.memory.fingerprint, dimensions)
            return fit, known, places.versions(connection)

    def _sketch(self, dimensions: int, known: dict[str, Place]) -> tuple[Fit, dict[str, Place]]:
        slots, keys = self._slots_and_keys()
        coordinates = self._aligned(dimensions, slots, pca(keys, dimensions), known)
        fit = Fit("PCA", {"n": len(slots)}, datetime.now(UTC))
        try:
            self._keep(dimensions, fit, slots, coordinates)
        except StoreError:  # a full or read-only disk must not stop looking: it is drawn again the next time
            log.info("the map of %d slots could not be kept", len(slots))
        made = [Place(slot.version, True, at) for slot, at in zip(slots, coordinates, strict=True)]
        return fit, dict(zip([slot.id for slot in slots], made, strict=True))

    def _place(
        self, dimensions: int, fit: Fit, known: dict[str, Place], anchors: list[str], fresh: list[str]
    ) -> dict[str, Place]:
        """Places for slots that have none, or none for the text they have now; kept where the disk allows it."""
        slots, keys = self._slots_and_keys({*anchors, *fresh})
        at = {slot.id: row for row, slot in enumerate(slots)}
        anchors, fresh = ([id for id in ids if id in at] for ids in (anchors, fresh))
        if not anchors or not fresh:
            return {}
        held = np.stack([known[id].coordinates for id in anchors])
        found = placed(fit.method, keys[[at[id] for id in anchors]], held, keys[[at[id] for id in fresh]])
        made = [
            Place(slots[at[id]].version, False, where, known[id].coordinates if id in known else None)
            for id, where in zip(fresh, found, strict=True)
        ]
        try:
            with self._space.store.atomic() as tx:
                fingerprint = self._space.engine.memory.fingerprint
                places.put(tx, fingerprint, dimensions, [slots[at[id]] for id in fresh], made)
        except StoreError:  # a full or read-only disk must not stop looking: they are placed again the next time
            log.info("the places of %d slots could not be kept", len(fresh))
        return dict(zip(fresh, made, strict=True))

    def _slots_and_keys(self, wanted: set[str] | None = None) -> tuple[list[Slot], np.ndarray]:
        """All slots, or those wanted, in any state, with their keys (slots, dim) float32."""
        slots = [slot for slot in self._space.store.slots(None) if wanted is None or slot.id in wanted]
        if not slots:
            return [], np.zeros((0, self._space.engine.memory.dim), np.float32)
        return slots, self._space.keys(slots)

    # -- fitting ----------------------------------------------------------------------------------------------------

    def _fit(
        self, dimensions: int, slots: list[Slot], keys: np.ndarray, before: Layout, parameters: dict[str, object]
    ) -> None:
        old = dict(zip(before.ids, before.coordinates, strict=True))
        if len(slots) < FEW:
            coordinates, said, method = pca(keys, dimensions), {}, "PCA"
        else:
            start = np.stack([old.get(slot.id, np.zeros(dimensions)) for slot in slots])
            said = PARAMETERS | parameters
            said["n_neighbors"] = min(said["n_neighbors"], len(slots) - 1)
            coordinates, method = umap(keys, dimensions, start, **said), "UMAP"
            said["metric"] = "cosine"
        known = {id: Place(0, True, at) for id, at in old.items()}
        coordinates = self._aligned(dimensions, slots, coordinates, known)
        if not self._closed:
            self._keep(dimensions, Fit(method, {"n": len(slots)} | said, datetime.now(UTC)), slots, coordinates)

    def _aligned(
        self, dimensions: int, slots: list[Slot], coordinates: np.ndarray, known: Mapping[str, Place]
    ) -> np.ndarray:
        """A new map laid onto the old one, be that of another memory model."""
        if not known:
            with self._space.store.database.reading() as connection:
                known = places.latest(connection, dimensions)
        both = [row for row, slot in enumerate(slots) if slot.id in known]
        if not both:
            return coordinates
        old = np.stack([known[slots[row].id].coordinates for row in both])
        return aligned(coordinates, coordinates[both], old)

    def _keep(self, dimensions: int, fit: Fit, slots: list[Slot], coordinates: np.ndarray) -> None:
        with self._space.store.atomic() as tx:
            places.replace(tx, self._space.engine.memory.fingerprint, dimensions, fit, slots, coordinates)


def _layout(dimensions: int, fit: Fit | None, known: dict[str, Place]) -> Layout:
    if fit is None:
        return Layout((), np.zeros((0, dimensions)), "PCA", {"n": 0}, None)
    anchors = sum(place.anchor for place in known.values())
    due = len(known) >= FEW and (fit.method == "PCA" or 2 * anchors <= len(known))
    return Layout(
        tuple(known),
        np.stack([place.coordinates for place in known.values()]) if known else np.zeros((0, dimensions)),
        fit.method,
        fit.parameters,
        fit.at,
        len(known) - anchors,
        {id: place.before for id, place in known.items() if place.before is not None},
        due,
    )


def _checked(dimensions: int, n_neighbors: int = 2, min_dist: float = 0.0, seed: int = 0) -> None:
    if dimensions not in (2, 3):
        raise InputError(f"A map has 2 or 3 dimensions, not {dimensions!r}.")
    if not 2 <= n_neighbors <= 200 or not 0 <= min_dist <= 1 or not 0 <= seed < 2**32:
        raise InputError("n_neighbors is between 2 and 200, min_dist between 0 and 1, and seed 0 or more.")


# -- arrays to arrays ---------------------------------------------------------------------------------------------


def pca(keys: np.ndarray, dimensions: int) -> np.ndarray:
    """The first principal components of keys (n, dim): (n, dimensions) float64, of unit spread; zeros beyond the rank.

    Signs are fixed (the largest loading is positive), so that the same keys always give the same map.
    """
    centred = keys.astype(np.float64) - keys.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    vectors = vectors[:, ::-1][:, :dimensions]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), range(vectors.shape[1])])
    seen = values[::-1][:dimensions] > 1e-9 * max(values[-1], 1e-12)
    found = np.zeros((len(keys), dimensions))
    found[:, : vectors.shape[1]] = centred @ (vectors * seen)
    return _of_unit_spread(found)


def umap(
    keys: np.ndarray, dimensions: int, start: np.ndarray, *, n_neighbors: int, min_dist: float, seed: int
) -> np.ndarray:
    """UMAP (McInnes et al. 2018) of keys (n, dim) by cosine: (n, dimensions) float64, of unit spread.

    It begins at `start` (n, dimensions), the map there was, so that it ends near it. Neighbours are the true ones.
    """
    import warnings

    from umap import UMAP  # numba compiles on import and in the first fit: seconds

    indices, distances = neighbours(keys, n_neighbors)
    start = start + np.random.default_rng(seed).normal(scale=1e-3, size=start.shape)  # no two on one spot, no flat side
    with warnings.catch_warnings():
        # it warns that one thread is used, as it must be for the same map each time, and that nothing can be placed by
        # `transform`, which nobody does
        warnings.simplefilter("ignore", UserWarning)
        reducer = UMAP(
            n_components=dimensions, n_neighbors=n_neighbors, min_dist=min_dist, metric="cosine", random_state=seed,
            n_jobs=1, init=start.astype(np.float32), precomputed_knn=(indices, distances), verbose=False,
        )  # fmt: skip
        return _of_unit_spread(reducer.fit_transform(keys).astype(np.float64))


def neighbours(keys: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every key (n, dim) itself and its nearest others: (indices, cosine distances), each (n, k), nearest first.

    Exact, by one matrix product for every CHUNK of rows: the search tree of UMAP has to be compiled first, and finds
    most of them, not all.
    """
    indices = np.empty((len(keys), k), dtype=np.int64)
    distances = np.empty((len(keys), k), dtype=np.float32)
    for start in range(0, len(keys), CHUNK):
        away = 1 - keys[start : start + CHUNK] @ keys.T
        rows = np.arange(len(away))
        away[rows, start + rows] = -1  # itself first, also among equals
        near = np.argpartition(away, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(away, near, axis=1), axis=1, kind="stable")
        indices[start : start + CHUNK] = np.take_along_axis(near, order, axis=1)
        distances[start : start + CHUNK] = np.take_along_axis(away, indices[start : start + CHUNK], axis=1).clip(0)
    return indices, distances


def placed(method: str, keys: np.ndarray, coordinates: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Where new keys (m, dim) belong on a map of anchors (n, dim) at coordinates (n, d): (m, d) float64.

    Each by itself: what else is new does not matter. Under UMAP the mean of its true nearest anchors, weighted by how
    near they are; under PCA, which is a linear map, by that map.
    """
    if method == "PCA":
        middle = keys.mean(axis=0, dtype=np.float64)
        centred, mean = keys - middle, coordinates.mean(axis=0)
        linear = np.linalg.pinv(centred.T @ centred, rcond=1e-9, hermitian=True) @ centred.T @ (coordinates - mean)
        return np.stack([mean + (key - middle) @ linear for key in new])
    found = []
    for key in new:
        cosine = keys @ key
        near = np.lexsort((np.arange(len(cosine)), -cosine))[:BESIDE]
        weights = np.exp((cosine[near] - cosine[near[0]]).astype(np.float64) / SHARP)
        found.append(weights @ coordinates[near] / weights.sum())
    return np.stack(found)


def aligned(coordinates: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """A map (n, d) turned, mirrored, scaled and shifted so that `new` (m, d), a part of it, comes closest to `old`.

    Ordinary Procrustes analysis (Gower 1975). One shared point, or points that all lie on one, only shift it.
    """
    from scipy.linalg import orthogonal_procrustes

    of_new, of_old = new.mean(axis=0), old.mean(axis=0)
    spread, wanted = np.linalg.norm(new - of_new), np.linalg.norm(old - of_old)
    if min(spread, wanted) < 1e-9:
        return coordinates - of_new + of_old
    turn, _ = orthogonal_procrustes(new - of_new, old - of_old)
    return (coordinates - of_new) @ turn * (wanted / spread) + of_old


def _of_unit_spread(coordinates: np.ndarray) -> np.ndarray:
    """Centred, with a mean squared distance from the middle of one; all in one point stays so."""
    centred = coordinates - coordinates.mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=1).mean())
    return centred / spread if spread > 1e-9 else centred
