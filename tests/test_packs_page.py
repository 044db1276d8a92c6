"""Packs on the page, without a browser: what the handlers give to whom."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from types import SimpleNamespace

import gradio as gr
import plotly.graph_objects as go
import pytest
from packing import TOWNS, built, echoing, lives, written
from pages import ANN, BOB, sent

from mam import base as bases
from mam.accounts import Accounts, set_password
from mam.errors import InputError, MissingError
from mam.figures.map import COLOURS
from mam.figures.packs import with_packs
from mam.packs import build
from mam.packs.background import FAILED, FINISHED, PAUSED, Job
from mam.packs.places import Place, places
from mam.packs.shelf import PACK_SLOT
from mam.packs.values import (
    READY,
    WAITING,
    Answer,
    Certificate,
    Document,
    Evidence,
    Reflection,
    Sentence,
    Shard,
    Source,
)  # fmt: skip
from mam.space import Space
from mam.store import Store
from mam.values import Call, Check, Read, Searched, Slot, Turn
from mam.web import asking, inside, report, shelf, talk
from mam.web import map as maps
from mam.web import reflections as taught
from mam.web.carry import Carrier
from mam.web.desk import Desk
from mam.web.here import MAP, PACKS
from mam.web.packs import Packs

QUESTION = "Anna lives in which?"


ENGINE, pytestmark = echoing, pytest.mark.usefixtures("quick_packs")


@pytest.fixture
def view(desk):
    return Packs(desk, Carrier(desk))


def put(view, request, *paths) -> None:
    """Files as the route leaves them."""
    folder = view.carrier._tickets[view.carrier.inbox(request)][1]
    folder.mkdir(exist_ok=True)
    for path in paths:
        (folder / path.name).write_bytes(path.read_bytes())


def do(view, act, of=None, session=None, request=ANN, **fields):
    """The last of what a button gives."""
    return list(view.act(sent(act, **fields), of, session, request))[-1]


def make(view, name, *paths, request=ANN, **fields):
    put(view, request, *paths)
    how = {"source": "files", "writer": "trained", "shard": 1, "epochs": 60}
    return do(view, "make", request=request, name=name, **how | fields)


@pytest.fixture
def towns(view, tmp_path):
    """A pack of Ann's that is built."""
    paths = written(tmp_path / "text", a=lives("Anna"), b=lives("Berta"))
    return built(view.desk.space(ANN), "towns", paths, base=bases.DEFAULT, shard=1, epochs=60)


def look(view, name, request=ANN, before=()):
    return view.follow(PACKS, name, None, before, request)


def test_a_pack_is_prepared_built_and_looked_at(view, tmp_path):
    make(view, "towns", *written(tmp_path / "text", a=lives("Anna"), b=lives("Berta")))
    do(view, "build", "towns")
    view.jobs["ann"].wait(60)
    assert view.jobs["ann"].state == FINISHED
    towns = view.desk.space(ANN).open_pack("towns")
    shown, head, doing, listed, *_, before = look(view, "towns")
    assert all(shard.state == READY for shard in towns.shards())
    assert "2 documents · ready" in shown and "Built." in doing
    assert "a.txt" in listed and "2 shards" in head and 'data-act="export"' in head
    assert all(type(part) is dict for part in look(view, "towns", before=before))  # nothing new: nothing is sent


def test_nothing_is_built_before_it_is_said_how_long_it_takes(view, tmp_path):
    name, *_ = make(view, "towns", *written(tmp_path / "text", a=lives("Anna")))
    pack = view.desk.space(ANN).open_pack(name)
    assert [shard.state for shard in pack.shards()] == [WAITING] and view.jobs == {}
    _, head, *_ = look(view, "towns")
    assert "less than a minute" in head and 'data-act="build"' in head
    assert not list(view.carrier._tickets[view.carrier.inbox(ANN)][1].glob("*"))  # nothing of the upload is left


def test_a_build_is_paused_and_a_new_page_goes_on(view, desk, tmp_path, monkeypatch):
    make(view, "towns", *written(tmp_path / "text", a=lives("Anna"), b=lives("Berta")))
    begun, gate, verified = threading.Event(), threading.Event(), build.answered

    def waiting(*asked):
        begun.set()
        assert gate.wait(30)
        return verified(*asked)

    monkeypatch.setattr(build, "answered", waiting)
    do(view, "build", "towns")
    assert begun.wait(30)
    do(view, "pause", "towns")
    gate.set()
    view.jobs["ann"].wait(30)
    assert view.jobs["ann"].state == PAUSED and "Paused; nothing is lost" in look(view, "towns")[2]
    again = Packs(desk, Carrier(desk))  # as after a restart
    _, head, doing, *_ = look(again, "towns")
    assert "not built yet" in head and "Go on building" in head and doing == ""
    do(again, "build", "towns")
    again.jobs["ann"].wait(60)
    assert desk.space(ANN).open_pack("towns").ready


def test_a_build_that_fails_says_why_in_a_line(view, tmp_path, monkeypatch):
    (tmp_path / "odd.txt").write_text("Nothing that this generator understands.")
    make(view, "odd", tmp_path / "odd.txt")
    do(view, "build", "odd")
    view.jobs["ann"].wait(60)
    assert view.jobs["ann"].state == FAILED
    assert "No question about odd.txt could be verified" in look(view, "odd")[2]


def test_what_cannot_be_made_is_refused_and_leaves_nothing(view, tmp_path):
    (good,) = written(tmp_path / "text", a=lives("Anna"))
    (tmp_path / "empty.txt").write_text("\n")
    for paths, name, fields, why in (
        ([], "towns", {}, "Choose the files"), ([good], "../towns", {}, "name of a pack"),
        ([good], "towns", {"shard": 0}, "shard is 0"), ([tmp_path / "empty.txt"], "towns", {}, "no text in empty.txt"),
        ([], "towns", {"source": "slots"}, "no text to make a pack of"), ([good], "towns", {"epochs": "1"}, "load it"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=why) as error:
            make(view, name, *paths, **fields)
        assert "mam-files" not in str(error.value)
    assert view.desk.space(ANN).packs() == []


def test_slots_become_a_pack(view):
    for text in lives("Anna", "Berta"):
        view.desk.space(ANN).add(text)
    make(view, "mine", source="slots")
    assert [d.name for d in view.desk.space(ANN).open_pack("mine").documents()] == ["memories"]
    with pytest.raises(InputError, match="already"):
        make(view, "mine", source="slots")


def test_nobody_reaches_the_pack_of_another(view, towns):
    chat = view.desk.space(ANN).session("Monday")
    for act, fields in (
        ("mount", {}), ("build", {}), ("delete", {"document": "a.txt"}), ("export", {}), ("remove", {}),
        ("open", {"pack": "towns"}),
    ):  # fmt: skip
        with pytest.raises(MissingError):
            do(view, act, "towns", request=BOB, **fields)
    with pytest.raises(InputError):  # her conversation
        do(view, "mount", "towns", chat.id, request=BOB)
    with pytest.raises(InputError, match="no certificate"):
        do(view, "certificate", "towns", request=BOB)
    with pytest.raises(MissingError):
        list(view.asking.run(QUESTION, False, "towns", BOB))
    assert "no packs yet" in look(view, "towns", BOB)[0] and "Choose a pack" in look(view, "towns", BOB)[1]
    assert towns.ready


@pytest.mark.parametrize("forged", [["1"], [True], "1", {"a": 1}, [1.5]])
def test_forged_numbers_delete_nothing(view, towns, forged):
    with pytest.raises(InputError):
        do(view, "delete", "towns", document="a.txt", sentences=forged)
    with pytest.raises(InputError, match="no document"):
        do(view, "delete", "towns", document="../a.txt")
    assert towns.ready


@pytest.mark.parametrize("forged", [
    {"sentence": "1", "words": "Anna lives in Rome."}, {"sentence": 1, "words": 3}, {"sentence": 1, "words": " "},
    {"sentence": 7, "words": "Anna lives in Rome."}, {"sentence": 1, "words": "Anna lives in Oslo."}, {},
])  # fmt: skip
def test_what_cannot_be_edited_is_refused_before_anything_is_done(view, towns, forged):
    with pytest.raises(InputError):
        do(view, "edit", "towns", document="a.txt", **forged)
    assert towns.ready and "ann" not in view.jobs


def test_a_document_goes_with_a_certificate(view, towns):
    before = {shard.id: shard.adapter for shard in towns.shards()}
    do(view, "delete", "towns", document="a.txt")
    view.jobs["ann"].wait(60)
    assert view.jobs["ann"].state == FINISHED, view.jobs["ann"].message
    assert "Show the certificate" in look(view, "towns")[2]
    report = do(view, "certificate", "towns")[2]
    assert "a.txt" in report and "adapter that had learned" in report and before["001"][:12] in report
    saved = json.loads(re.search('data-file="([^"]+)"', report)[1].replace("&quot;", '"'))
    assert saved["discarded"] == [before["000"]] and [d.name for d in towns.documents()] == ["b.txt"]


def test_a_deletion_that_is_paused_shows_its_certificate_then_and_when_it_is_built(view, tmp_path):
    make(view, "both", *written(tmp_path / "text", a=lives("Anna"), b=lives("Berta")), shard=2, epochs=1)
    do(view, "build", "both")
    view.jobs["ann"].wait(60)
    pack = view.desk.space(ANN).open_pack("both")

    def interrupted(told, stop):
        stop.set()
        return pack.delete("a.txt", (), told, stop)

    view.jobs["ann"] = Job("both", interrupted, took=lambda: bool(pack.certificates()))
    view.jobs["ann"].wait(60)
    doing = look(view, "both")[2]
    assert "gone already; its shard answers nothing until it is built" in doing and "Show the certificate" in doing
    report = do(view, "certificate", "both")[2]
    assert "Shard 000 answers nothing until it is trained anew" in report and "No weights are left" in report
    do(view, "build", "both")
    view.jobs["ann"].wait(60)
    assert "Show the certificate" in look(view, "both")[2]
    assert "Shard 000 answered nothing until it was trained anew" in do(view, "certificate", "both")[2]


def test_an_edit_that_nothing_can_be_learned_of_says_what_is_gone(view, tmp_path):
    make(view, "one", *written(tmp_path / "text", a=lives("Anna")))
    do(view, "build", "one")
    view.jobs["ann"].wait(60)
    do(view, "edit", "one", document="a.txt", sentence=1, words="Nothing that the generator understands.")
    view.jobs["ann"].wait(60)
    doing = look(view, "one")[2]
    assert "could be verified" in doing and "gone already" in doing and "Show the certificate" in doing
    assert "Shard 000 answers nothing until it is trained anew" in do(view, "certificate", "one")[2]


def test_a_button_is_of_the_pack_it_was_drawn_for(view, towns, tmp_path):
    make(view, "other", *written(tmp_path / "other", x=lives("Carla")))
    left = list(view.act(sent("remove", of="towns"), "other", None, ANN))[-1]
    assert [pack.name for pack in view.desk.space(ANN).packs()] == ["other"]
    assert left[0] == gr.skip()  # the other one is still looked at
    with pytest.raises(InputError):
        list(view.act(sent("remove", of=3), "other", None, ANN))


def test_a_pack_of_memories_that_changed_is_to_be_built_again(view):
    m = view.desk.space(ANN)
    anna, _ = (m.add(text) for text in lives("Anna", "Berta"))
    m.pack("mine", base=bases.DEFAULT, epochs=1)
    assert ">ready<" in look(view, "mine")[1]
    m.edit(anna.id, "Anna lives in Rome.")
    head = look(view, "mine")[1]
    assert "memories changed since" in head and ">Build<" in head
    do(view, "build", "mine")
    view.jobs["ann"].wait(60)
    assert ">ready<" in look(view, "mine")[1] and m.open_pack("mine").reflections("Rome")


def test_a_pack_is_mounted_in_the_conversation_that_goes_on(view, towns):
    m = view.desk.space(ANN)
    _, session, *_ = do(view, "mount", "towns")  # none was begun
    assert m.mounted(session) == {"towns": False} and "towns" in view.line(session, ANN)
    chat = view.desk.chat(None, ANN, temporary=True)
    do(view, "mount", "towns", chat.id)
    assert chat.mounted == {"towns": False}
    do(view, "unmount", None, chat.id, pack="towns")
    assert not chat.mounted and list(m.mounted(session)) == ["towns"]
    do(view, "stages", "towns", chat.id)
    assert chat.mounted == {"towns": True} and "towns in stages" in view.line(chat.id, ANN)
    assert "finds what to ask it, in stages" in view.follow(PACKS, "towns", chat.id, (), ANN)[1]
    assert view.line("no such conversation", ANN) == ""


def test_a_damaged_pack_hides_no_other(view, towns, tmp_path):
    make(view, "other", *written(tmp_path / "more", c=lives("Carla")))
    do(view, "build", "towns")  # there is nothing to do
    view.jobs["ann"].wait(60)
    (towns.store.folder / "pack.json").write_text("{")
    shown, head, *_ = look(view, "towns")
    assert "damaged" in shown and "other" in shown and "pack.json is missing or damaged" in head
    assert view.jobs["ann"].state == FINISHED
    do(view, "remove", "towns")
    assert view.jobs == {}  # another pack of this name was not built yet
    assert [pack.name for pack in view.desk.space(ANN).packs()] == ["other"]


def test_one_job_at_a_time(view, towns):
    held = threading.Event()
    job = view.jobs["ann"] = Job("towns", lambda told, stop: told("reflecting 000", 0, 1) or held.wait(10) and None)
    with pytest.raises(InputError, match="being built or changed"):
        do(view, "build", "towns")
    held.set()
    job.wait(5)
    assert job.state == FINISHED


def test_times_are_said_roughly():
    assert [shelf.minutes(s) for s in (5, 61, 600, 8000)] == [
        "less than a minute", "about 1 min", "about 10 min", "about 2 h 13 min"]  # fmt: skip


def test_everything_shown_is_escaped(view, tmp_path):
    odd = tmp_path / "<b>x.txt"
    odd.write_text("Anna lives in Oslo.")
    pack = view.desk.space(ANN).pack("towns", odd, base=bases.DEFAULT, generator="<i>", build=False)
    _, head, _, listed, *_ = look(view, pack.name)
    assert "<b>x" not in listed and "&lt;b&gt;x.txt" in listed and "&lt;i&gt;" in head and "<i>" not in head


def test_whatever_a_pack_holds_is_escaped():
    bad, now = "<script>&\"'", datetime.now(UTC)
    document = Document(bad, (Sentence(1, bad, bad),))
    shard = Shard(bad, READY, {bad: bad}, figures={"right": 1.0}, seconds={"training": 1.0})
    job = SimpleNamespace(going=True, state="running", step=(f"reflecting {bad}", 1, 2), left=lambda: 60.0)
    sight = shelf.Sight(bad, (document,), (shard,), bad, mounted=True, job=job)
    call = Call("answer", "pack", bad, bad, bad, 0.5, bad, bad)
    read = Read(Slot(f"{PACK_SLOT}1", bad, bad, bad, now, document=bad), 0.5)
    turn = Turn(bad, bad, bad, bad, now, reads=(read,), calls=(call, replace(call, stage=bad, to="executive")))
    from_it = (Source(bad, 1),)
    found = [Reflection(bad, kind, bad, bad, from_it, bad, kept, bad) for kind in (bad, "direct") for kept in (1, 0)]
    done = Certificate(
        bad, {bad: bad}, 1, (bad,), (Evidence(bad, {bad: bad}, bad, bad),), (Searched(bad, 1, bad),),
        (Check(bad, 0.9, 0.1, 0.1, False),), now, bad, bad, True,
    )  # fmt: skip
    failed = SimpleNamespace(going=False, state=FAILED, message=bad, step=("", 0, 0), took=lambda: True)
    places, answer = {(bad, 1): document.sentences[0]}, Answer(bad, bad, True, (call,), 0.1, bad, 0.5)
    shown = [
        shelf.shelf([sight], bad), shelf.form(bad), shelf.head(sight), shelf.head(shelf.Sight(bad, damage=bad)),
        shelf.documents(sight), shelf.work(job), shelf.work(failed), shelf.asked_here({bad: True}), asking.told(answer),
        asking.remembered(turn, 0.1), asking.asked_in(turn), inside.panel(turn), talk.conversation([turn]),
        taught.rows(bad, found, 99, 1, places, True), report.deletion(done), maps.pack_card(bad, found[0]),
    ]  # fmt: skip
    assert all(bad not in text and "<script" not in text for text in shown)


# ---- on the map ------------------------------------------------------------------------------------------------------


def test_what_is_in_weights_lies_apart_on_the_map_and_moves_nothing(view, towns):
    m, drawn = view.desk.space(ANN), maps.Map(view.desk)
    for text in ("My sister Anna lives in Oslo.", "My dog is called Rex.", "My boat is in Rome."):
        m.add(text)

    def traces(flat, packed):
        figure, note, *_ = drawn.drawing(MAP, False, flat, COLOURS[0], "", None, packed, None, ANN)
        found = json.loads(figure)["data"]
        marks = [trace for trace in found if trace.get("meta") == "questions"]
        slots = [trace for trace in found if trace.get("meta") not in ("questions", "region")]
        return marks, slots, "what packs have learned" in note

    for flat, coordinates in (("Flat", "xy"), ("In space", "xyz")):
        (one, other), slots, said = traces(flat, True)
        assert (one["name"], other["name"]) == ("a.txt in towns (2)", "b.txt in towns (2)") and said
        assert all(len(one[axis]) == 2 for axis in coordinates)
        assert traces(flat, False) == ([], slots, False)
    pick = one["customdata"][0]
    same, none, mark = drawn.picked(SimpleNamespace(pick=pick), ANN)
    card = drawn.card(None, mark, MAP, ANN)
    assert "Oslo" in card and "a.txt" in card and same == none == gr.skip()
    assert "Oslo" not in drawn.card(None, mark, MAP, BOB)
    ids = [slot.id for slot in m.slots()]
    assert drawn.picked(SimpleNamespace(lasso=[*ids, pick]), ANN)[1] == ids
    for forged in (pick, "pack/../x", "pack/towns/none", "pack/", "x"):
        with pytest.raises(InputError):
            drawn.picked(SimpleNamespace(pick=forged), BOB)
    assert drawn.drawing(MAP, False, "Flat", COLOURS[0], "", None, True, None, BOB)[3].visible is False


def test_of_many_documents_the_last_share_a_mark(view, tmp_path):
    m = view.desk.space(ANN)
    m.add("My sister Anna lives in Oslo.")
    many = {f"d{number}": lives(name) for number, name in enumerate((*TOWNS, *TOWNS))}
    make(view, "many", *written(tmp_path / "many", **many), shard=1000, epochs=1)
    do(view, "build", "many")
    view.jobs["ann"].wait(60)
    found = places(m, m.packs(), m.layout())
    assert len({place.document for place in found}) > 6 and len(found) <= 400
    figure = with_packs(go.Figure(), found)
    marks = [len(trace.customdata) for trace in figure.data if trace.meta == "questions"]
    others = len({place.document for place in found}) - 5
    assert len(marks) == 6 and sum(marks) == len(found)
    assert figure.data[-1].name == f"{others} other documents ({marks[-1]})"
    assert places(m, [], m.layout()) == []


@pytest.mark.parametrize("axes", ["xy", "xyz"])
def test_a_region_is_drawn_around_nine_of_ten_questions_of_a_pack_behind_everything(axes):
    taught, corners = Reflection("r", "direct", "Who?", "Anna", ()), list(product((0.0, 1.0), repeat=len(axes)))
    inside = [(0.5,) * len(axes)] * (18 - len(corners))
    far = [(9.0,) * len(axes), (-9.0,) * len(axes)]
    found = [Place("towns", f"{i}.txt", taught, at) for i, at in enumerate([*corners, *inside, *far])]
    found += [Place("line", "x.txt", taught, (float(i),) * len(axes)) for i in range(5)]
    figure = with_packs(go.Figure(go.Scatter(name="slots")), found)
    regions = [trace for trace in figure.data if trace.meta == "region"]
    assert [trace.name for trace in regions] == ["90% of towns"] and figure.data[0] is regions[0]
    assert len(figure.data) == 1 + 1 + 6
    drawn = set(zip(*(regions[0][axis] for axis in axes), strict=True))
    assert set(corners) <= drawn and not drawn & set(far)


# ---- files by ticket -------------------------------------------------------------------------------------------------


@pytest.fixture
def people(tmp_path, engine):
    """A page with accounts; (what carries its files, Ann's client, Bob's, and nobody's)."""
    import httpx

    from mam.web import serve

    made = []
    for name in ("ann", "bob"):
        set_password(tmp_path / "accounts", name, "correct horse")
    desk = Desk(lambda user, memory: Space(Store(tmp_path / "data", user), engine))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serve, "Carrier", lambda desk: made.append(Carrier(desk)) or made[0])
        blocks = serve.launch(desk, None, quiet=True, accounts=Accounts(tmp_path / "accounts"))
    clients = [httpx.Client(base_url=blocks.local_url, trust_env=False) for _ in range(3)]
    for client, name in zip(clients, ("ann", "bob"), strict=False):
        assert client.post("login", data={"username": name, "password": "correct horse"}).status_code == 200
    yield made[0], *clients
    for client in clients:
        client.close()
    blocks.close()


def test_a_ticket_is_for_one_user_and_goes_with_the_tab(people, tmp_path):
    carrier, ann, bob, nobody = people
    with carrier.sending("towns.pack", ANN) as (file, ticket):
        file.write_bytes(b"weights")
    for client in (bob, nobody):
        assert client.get(f"packs/file/{ticket}").status_code == 404
        assert client.put(f"packs/file/{ticket}", content=b"x", params={"name": "x"}).status_code == 404
    assert ann.put(f"packs/file/{ticket}", content=b"x", params={"name": "x"}).status_code == 404
    got = ann.get(f"packs/file/{ticket}")
    assert got.content == b"weights" and 'filename="towns.pack"' in got.headers["content-disposition"]
    assert ann.get(f"packs/file/{ticket}").content == b"weights"  # a browser may ask again
    carrier.closed(ANN)
    assert ann.get(f"packs/file/{ticket}").status_code == 404 and not file.exists()
    assert ann.get("packs/file/guessed").status_code == 404


def test_what_goes_up_stays_in_its_folder(people, monkeypatch):
    carrier, ann, bob, nobody = people
    inbox = carrier.inbox(ANN)
    assert carrier.inbox(ANN) == inbox != carrier.inbox(BOB)
    for client in (bob, nobody):
        assert client.put(f"packs/file/{inbox}", content=b"x", params={"name": "x"}).status_code == 404
    for name, answer in (("../../evil.txt", 200), ("..\\evil.txt", 409), ("/etc/evil2.txt", 200)):
        assert ann.put(f"packs/file/{inbox}", content=b"x", params={"name": name}).status_code == answer
    assert ann.put(f"packs/file/{inbox}", content=b"x", params={"name": "../.."}).status_code == 400
    monkeypatch.setattr("mam.web.carry.LARGEST", 10)
    big = ann.put(f"packs/file/{inbox}", content=b"x" * 11, params={"name": "big.txt"})
    assert big.status_code == 413 and "command line" in big.text
    assert ann.get(f"packs/file/{inbox}").status_code == 404  # what goes up does not come down
    with carrier.received(ANN) as files:
        assert [file.name for file in files] == ["evil.txt", "evil2.txt"] and files[0].read_bytes() == b"x"
    with carrier.received(ANN) as files:
        assert files == []
    for name in ("left.txt", "meant.txt"):
        assert ann.put(f"packs/file/{inbox}", content=b"x", params={"name": name, "first": "yes"}).status_code == 200
    with carrier.received(ANN) as files:
        assert [file.name for file in files] == ["meant.txt"]
    carrier.closed(ANN)
    assert ann.put(f"packs/file/{inbox}", content=b"x", params={"name": "x"}).status_code == 404


def test_an_export_is_gone_with_the_next(desk):
    carrier = Carrier(desk)
    with carrier.sending("one.pack", ANN) as (one, first):
        one.write_bytes(b"1")
    with carrier.sending("two.pack", ANN) as (two, _):
        two.write_bytes(b"2")
    assert not one.exists() and two.exists() and first not in carrier._tickets
    with pytest.raises(InputError), carrier.sending("three.pack", ANN) as (three, _):
        raise InputError("It cannot be written.")
    assert not three.parent.exists()
