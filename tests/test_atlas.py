"""Maps: a point stays where it is, the same slots give the same map, and nothing of a purged one is left."""

from __future__ import annotations

import time

import numpy as np
import pytest
import sqlalchemy as sa

from mam import atlas, schema
from mam.errors import InputError
from mam.space import Space
from mam.store import Store, new_id

THINGS = ("dog", "cat", "car", "boat", "tea", "job", "flat", "sister", "brother", "bike")
NAMES = ("Rex", "Tom", "Ada", "Ivo", "Pia", "Leo")


def texts(count: int, start: int = 0) -> list[str]:
    numbers = range(start, start + count)
    return [f"My {THINGS[n % 10]} number {n} is called {NAMES[n % 6]} {NAMES[n // 7 % 6]}." for n in numbers]


@pytest.fixture
def few(m):
    """Ten slots, which PCA draws."""
    return [m.add(text).id for text in texts(10)]


@pytest.fixture
def many(m, monkeypatch):
    """Forty slots and a stand-in for UMAP, which compiles for seconds: something that is not linear, from the start."""
    monkeypatch.setattr(
        atlas, "umap", lambda keys, dimensions, start, **_: np.cbrt(atlas.pca(keys, dimensions)) + 0.05 * start
    )
    return [m.add(text).id for text in texts(40)]


def where(layout) -> dict[str, tuple]:
    return {id: tuple(at) for id, at in zip(layout.ids, layout.coordinates.tolist(), strict=True)}


def test_a_memory_without_slots_has_a_map_too(m):
    empty = m.layout()
    assert empty.ids == () and empty.coordinates.shape == (0, 2) and empty.fitted_at is None and not empty.due
    m.add("My dog is called Rex.")
    assert m.layout(3).coordinates.tolist() == [[0.0, 0.0, 0.0]]
    for dimensions in (1, 4, "2"):
        with pytest.raises(InputError, match="2 or 3"):
            m.layout(dimensions)
    with pytest.raises(InputError, match="n_neighbors"):
        m.refit(n_neighbors=1)


def test_few_slots_are_drawn_by_pca(m, few):
    layout = m.layout()
    assert (layout.method, layout.parameters, layout.placed, layout.due) == ("PCA", {"n": 10}, 0, False)
    assert layout.ids == tuple(few) and layout.coordinates.shape == (10, 2)
    distances = np.linalg.norm(layout.coordinates, axis=1)
    assert np.sqrt((distances**2).mean()) == pytest.approx(1)
    assert m.layout(3).coordinates.shape == (10, 3)


def test_old_points_stay_when_slots_are_added(m, many):
    before = where(m.layout())
    for text in texts(15, 40):
        m.add(text)
        now = where(m.layout())
        assert {id: now[id] for id in before} == before
    layout = m.layout()
    assert (layout.method, layout.placed, len(layout.ids), layout.due) == ("UMAP", 15, 55, False)


def test_where_a_slot_is_placed_does_not_depend_on_others_or_on_when(open_space, many, m):
    fitted = where(m.layout())
    for number, text in enumerate(texts(6, 40)):  # one by one here ...
        m.add(text)
        m.layout()
        assert len(m.layout().ids) == 41 + number
    one_by_one = where(m.layout())
    with m.store.atomic() as tx:  # ... and there all at once, in another program
        tx.execute(schema.places.delete().where(schema.places.c.anchor.is_(False)))
    at_once = where(open_space().layout())
    assert at_once == one_by_one and len(at_once) == len(fitted) + 6


def test_a_new_slot_lies_with_its_true_neighbours(m, many):
    layout = m.layout()
    twin = m.add(texts(1)[0])  # says what the first one says
    now = where(m.layout())
    assert np.linalg.norm(np.subtract(now[twin.id], now[many[0]])) < 0.1
    assert m.neighbours(twin.id)[0] == (m.slot(many[0]), pytest.approx(1)) and layout.placed == 0
    assert all(slot.id != twin.id for slot, _ in m.neighbours(twin.id, 64))


def test_pca_places_a_slot_where_it_would_have_drawn_it(m, few):
    keys = m.keys(m.slots())
    drawn = atlas.pca(keys, 2)
    turned = drawn @ np.array([[0.6, 0.8], [-0.8, 0.6]]) * 3 + 1
    assert atlas.placed("PCA", keys, turned, keys) == pytest.approx(turned, abs=1e-6)


def test_a_new_fit_is_due_once_half_of_the_points_were_placed(m, many):
    first = m.layout()
    for text in texts(39, 40):
        m.add(text)
    assert not m.layout(wait=False).due and m.layout().fitted_at == first.fitted_at
    m.add("My horse is called Max.")
    again = m.layout()
    assert again.fitted_at > first.fitted_at and again.placed == 0 and again.parameters["n"] == 80


def test_a_new_fit_is_laid_onto_the_old_one(m, many, monkeypatch):
    before = where(m.layout())
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    old = np.array(list(before.values()))
    monkeypatch.setattr(atlas, "umap", lambda keys, d, start, **_: np.array(start) @ turn * [1, -1] * 7 + 100)
    after = m.refit()
    assert np.allclose(after.coordinates, old)  # mirrored, turned, larger and elsewhere: all of that is taken back


def test_parameters_are_kept_and_used_again(m, many):
    assert m.layout().parameters == {"n": 40, "n_neighbors": 15, "min_dist": 0.1, "seed": 0, "metric": "cosine"}
    assert m.refit(n_neighbors=90, min_dist=0.5).parameters["n_neighbors"] == 39  # there are no more
    assert m.refit(seed=3).parameters == {"n": 40, "n_neighbors": 39, "min_dist": 0.5, "seed": 3, "metric": "cosine"}
    assert m.layout(3).parameters["min_dist"] == 0.1  # another map


def test_slots_in_any_state_keep_their_place(m, many):
    before = where(m.layout())
    m.delete(many[0])
    m.archive(many[1])
    m.tag(many[2], "pet")
    assert where(m.layout()) == before and m.layout().placed == 0


def test_an_edit_moves_one_point_and_leaves_where_it_was(m, many):
    before = where(m.layout())
    m.edit(many[0], "I work as a nurse in Oslo.")
    layout = m.layout()
    now = where(layout)
    assert now.pop(many[0]) != before[many[0]] == tuple(layout.before[many[0]])
    assert now == {id: before[id] for id in now} and layout.placed == 1
    assert m.refit().before == {}


def test_a_sketch_at_once_then_the_map_in_the_background(m, many, monkeypatch):
    seen = m.version()
    sketch = m.layout(wait=False)
    assert (sketch.method, sketch.due, sketch.fitting, sketch.failure) == ("PCA", True, True, "")
    deadline = time.monotonic() + 20
    while m.layout(wait=False).due and time.monotonic() < deadline:
        time.sleep(0.02)
    assert m.layout(wait=False).method == "UMAP" and m.version() > seen  # pages follow the data version


def test_a_fit_that_fails_is_said_and_not_tried_for_ever(m, many, monkeypatch):
    tried = []

    def broken(*_, **__):
        tried.append(1)
        raise ValueError("no eigenvalues")

    monkeypatch.setattr(atlas, "umap", broken)
    deadline = time.monotonic() + 20
    while not (layout := m.layout(wait=False)).failure and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "no eigenvalues" in layout.failure and layout.method == "PCA"
    m.layout(wait=False)
    assert tried == [1]


def test_other_keys_make_another_map_laid_onto_the_old_one(open_space, m, many, monkeypatch):
    before = m.layout()
    monkeypatch.setattr(m.engine.memory, "fingerprint", "other rules")
    monkeypatch.setattr(m.engine.memory, "keys", lambda hidden: np.roll(hidden[:, ::-1], 7, axis=1) / 3)
    other = open_space()
    layout = other.layout()
    assert layout.fitted_at > before.fitted_at and layout.placed == 0
    assert np.linalg.norm(layout.coordinates - before.coordinates, axis=1).mean() < 0.3


def test_a_slot_purged_or_edited_while_a_map_is_fitted_is_not_on_it(m, many, monkeypatch):
    m.layout()

    def meanwhile(keys, dimensions, start, **_):
        m.purge(many[0])
        m.edit(many[1], "I work as a nurse in Oslo.")
        return start + np.arange(len(start))[:, None]

    monkeypatch.setattr(atlas, "umap", meanwhile)
    layout = m.refit()
    assert many[0] not in layout.ids and layout.placed == 1 and len(layout.ids) == 39


def test_on_a_server_too(server, engine):
    m = Space(Store(server, f"ann {new_id()}"), engine)
    ids = [m.add(text).id for text in texts(6)]
    before = where(m.layout())
    m.edit(ids[0], "I work as a nurse in Oslo.")
    assert tuple(m.layout().before[ids[0]]) == before[ids[0]] and where(m.layout(3)).keys() == before.keys()
    assert [event.kind for event in m.timeline().happenings] == ["write"] * 6 + ["edit"]
    assert m.purge(ids[0]).places == 2 and ids[0] not in m.layout().ids
    m.close()


def left_in(folder, coordinates) -> bool:
    rows = [np.asarray(row, dtype="<f8") for row in coordinates]
    forms = [form for row in rows for form in (row.tobytes(), row[:1].tobytes(), row.astype(">f8").tobytes(),
                                               row.astype("<f4").tobytes(), str(row[0]).encode())]  # fmt: skip
    return any(form in file.read_bytes() for file in folder.rglob("*") if file.is_file() for form in forms)


def test_a_purge_leaves_no_coordinates(m, many, tmp_path):
    first = where(m.layout())[many[0]]
    m.edit(many[0], "I work as a nurse in Oslo.")
    m.layout(3)
    found = [first, where(m.layout())[many[0]], where(m.layout(3))[many[0]]]
    m.refit()  # what it was before the fit has to go, too
    found.append(where(m.layout())[many[0]])
    assert left_in(tmp_path, found)
    done = m.purge(many[0])
    assert done.places == 2 and not left_in(tmp_path, found)
    assert many[0] not in m.layout().ids and len(m.layout().ids) == 39


def test_a_purge_of_a_text_that_another_slot_quotes_moves_that_one(m, many, tmp_path):
    quoting = m.add(f"{m.slot(many[0]).text} She is nice.")
    was = where(m.layout())[quoting.id]
    m.purge(many[0])
    assert not left_in(tmp_path, [was])
    assert m.slot(quoting.id).text == "She is nice." and where(m.layout())[quoting.id] != was


def test_a_purge_of_everything_leaves_no_map(m, many, tmp_path):
    found = m.layout().coordinates
    m.purge_everything()
    assert not left_in(tmp_path, found) and m.layout().fitted_at is None
    with m.store.database.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(schema.layouts)) == 0


def test_neighbours_are_the_true_ones():
    keys = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    keys[7] = keys[3]
    indices, distances = atlas.neighbours(keys, 5)
    assert indices[:, 0].tolist() == list(range(50)) and (distances[:, 0] == 0).all()
    assert indices[7, 1] == 3 and distances[7, 1] == pytest.approx(0, abs=1e-6)
    cosine = keys @ keys.T
    assert all(cosine[row, indices[row, 4]] == np.sort(cosine[row])[-5] for row in range(50) if row not in (3, 7))


def test_real_umap_finds_groups_and_gives_the_same_map_each_time():
    draw = np.random.default_rng(0)
    middles = draw.standard_normal((3, 16))
    keys = np.concatenate([middle + 0.2 * draw.standard_normal((20, 16)) for middle in middles]).astype(np.float32)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    start = np.zeros((60, 2))  # a map on which everything lies on one spot is a start, too
    one, other = (atlas.umap(keys, 2, start, n_neighbors=10, min_dist=0.1, seed=0) for _ in range(2))
    assert np.array_equal(one, other) and np.isfinite(one).all()
    groups = one.reshape(3, 20, 2)
    within = np.linalg.norm(groups - groups.mean(axis=1, keepdims=True), axis=2).mean()
    between = np.linalg.norm(groups.mean(axis=1)[0] - groups.mean(axis=1)[1])
    assert between > 2 * within
