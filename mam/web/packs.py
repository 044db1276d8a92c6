"""Packs: knowledge in weights. The shelf, one pack with its documents, what is being done to it, and where it is asked.

What is done to a pack goes on in the background (see `mam.packs.background`), whoever looks; what counts of it is on
the disk. The box that asks a pack is in `asking`, its reflections and curves are in `reflections`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import gradio as gr

from mam import base as bases
from mam.errors import InputError, MamError
from mam.packs.background import Job
from mam.packs.values import READY
from mam.space import Space
from mam.web.asking import Asking
from mam.web.carry import PATH, Carrier
from mam.web.desk import Desk, plainly, sent
from mam.web.here import PACKS, QUIET, Here, script
from mam.web.reflections import Reflections
from mam.web.report import Report, deletion, working
from mam.web.shelf import Sight, asked_here, documents, form, head, shelf, work
from mam.web.work import followed

LOOK = 2.0  # seconds between two looks at how far a job is


class Packs:
    def __init__(self, desk: Desk, carrier: Carrier):
        self.desk, self.carrier = desk, carrier
        self.asking, self.reflections = Asking(desk), Reflections(desk)
        self.jobs: dict[str, Job] = {}  # the last one, by the user of the space: what is done outlives the tab
        self._beginning = threading.Lock()

    # -- looking --------------------------------------------------------------------------------------------------

    def follow(self, tab: str, name: str | None, session: str | None, before: tuple, request: gr.Request) -> tuple:
        """(shelf, the pack, what is done to it, documents, whether one is shown, mark of its files, what is drawn)."""
        if tab != PACKS:
            return (gr.skip(),) * 7
        m, mounted = self.desk.space(request), self._mounted(session, request)
        job, marks = self.jobs.get(m.user), {pack.name: changes(pack.store.folder) for pack in m.packs()}
        far = (job, job.state, job.step, job.message) if job else ()
        drawn, told = before or ((), ())
        now = (name, m.version(), tuple(mounted.items()), tuple(marks.items()), far[:2])
        if (now, far) == (drawn, told):
            return (gr.skip(),) * 7
        doing = work(job if job and job.pack == name else None)
        if now == drawn:
            return gr.skip(), gr.skip(), doing, *[gr.skip()] * 3, (now, far)
        sights = [self._sight(pack, mounted, job) for pack in m.packs()]
        chosen = next((sight for sight in sights if sight.name == name), None)
        whole = chosen is not None and not chosen.damage
        mark = (name, marks.get(name))
        more = gr.Column(visible=whole)
        return shelf(sights, name), head(chosen), doing, documents(chosen), more, mark, (now, far)

    def _sight(self, pack, mounted: Mapping[str, bool], job: Job | None) -> Sight:
        job = job if job and job.pack == pack.name else None
        try:
            settings, shards = pack.settings, pack.shards()
            writer = "the generator of mam" if settings.generator == "trained" else settings.generator
            about = f"Questions written by {writer}, learned by {Path(settings.base).name}."
            waits = any(shard.state != READY for shard in shards)
            left = pack.estimate() if waits else 0.0
            begun = any(
                (pack.store.shard_folder(shard.id) / "memo.jsonl").exists() for shard in shards if shard.state != READY
            )
            here = {"mounted": pack.name in mounted, "in_stages": mounted.get(pack.name, False)}
            here["stale"] = not waits and not pack.ready
            return Sight(pack.name, pack.documents(), shards, about, left, begun, **here, job=job)
        except MamError as error:  # one that cannot be read does not hide the others
            return Sight(pack.name, damage=str(error), job=job)

    def _mounted(self, session: str | None, request: gr.Request) -> dict[str, bool]:
        try:
            return {} if session is None else self.desk.chat(session, request).mounted
        except InputError:  # purged meanwhile
            return {}

    def line(self, session: str | None, request: gr.Request) -> str:
        """What is asked in the conversation that goes on."""
        return asked_here(self._mounted(session, request))

    # -- changing -------------------------------------------------------------------------------------------------

    def act(self, event: gr.EventData, name: str | None, session: str | None, request: gr.Request) -> Iterator[tuple]:
        """A button; yields (the pack that is looked at, the conversation, report, file to save)."""
        m, same, act, looked = self.desk.space(request), gr.skip(), sent(event, "act"), name
        if hasattr(event, "of"):  # the pack that the button is of: another one may be looked at by now
            name = sent(event, "of")
        if act == "page":  # see `reflections`
            yield (same,) * 4
        elif act == "open":
            yield m.open_pack(sent(event, "pack")).name, same, same, same
        elif act in ("mount", "stages"):
            chat = self.desk.chat(session, request)
            chat.mount(self._of(m, name).name, in_stages=act == "stages")
            self.desk.show(chat.id, request)
            yield same, chat.id, same, same
        elif act == "unmount":
            if session is not None:
                self.desk.chat(session, request).unmount(getattr(event, "pack", name) or "")
            yield same, same, same, same
        elif act == "build":
            pack = self._of(m, name)
            self._begin(m, pack, lambda told, stop: _built(pack, told, stop))
            yield (same,) * 4
        elif act == "pause":
            if (job := self.jobs.get(m.user)) is not None:
                job.pause()
            yield (same,) * 4
        elif act == "delete":
            self._delete(m, self._of(m, name), sent(event, "document"), getattr(event, "sentences", []))
            yield (same,) * 4
        elif act == "edit":
            how = sent(event, "document"), sent(event, "sentence", int), sent(event, "words")
            self._edit(m, self._of(m, name), *how)
            yield (same,) * 4
        elif act == "certificate":
            job = self.jobs.get(m.user)
            done = job and job.result
            if job and job.took() and not done:  # it was paused
                done = next(reversed(m.open_pack(job.pack).certificates()), None)
            if not done:
                raise InputError("There is no certificate any more.")
            yield same, same, deletion(done), same
        elif act == "make":
            yield from self._made(m, event, request)
        elif act == "import":
            yield from self._imported(m, sent(event, "name"), request)
        elif act == "export":
            yield from self._exported(self._of(m, name), request)
        elif act == "remove":
            self._of(m, name).remove()
            self._forget(m, name)
            gr.Info(f"The pack {name} is gone, with all its files.")
            yield None if name == looked else same, same, same, same
        else:
            raise InputError(f"There is no button {act!r}.")

    def _of(self, m: Space, name: str | None):
        if name is None:
            raise InputError("Choose a pack first.")
        return m.open_pack(name)

    def _begin(self, m: Space, pack, do: Callable) -> None:
        from mam.packs.build import remaining  # takes a while to import, and many have no packs

        before = pack.certificates()

        def took() -> bool:
            return pack.certificates() != before

        with self._beginning:
            if (job := self.jobs.get(m.user)) is not None and job.going:
                raise InputError(f"The pack {job.pack} is being built or changed; wait for that, or pause it.")
            self.jobs[m.user] = Job(pack.name, do, lambda *step: remaining(pack.store, *step), took)

    def _forget(self, m: Space, name: str) -> None:
        """How the last job of a pack ended says nothing about what the pack is now."""
        if (job := self.jobs.get(m.user)) is not None and job.pack == name and not job.going:
            del self.jobs[m.user]

    def _delete(self, m: Space, pack, document: str, numbers: object) -> None:
        """numbers: of sentences; none for the whole document."""
        if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
            raise InputError("The page sent something that mam does not understand; load it again.")
        if document not in [known.name for known in pack.documents()]:
            raise InputError(f"The pack {pack.name} has no document {document!r}.")
        self._begin(m, pack, lambda told, stop: pack.delete(document, numbers, told, stop))

    def _edit(self, m: Space, pack, document: str, number: int, words: str) -> None:
        pack.reworded(document, number, words)  # what cannot be is said at once
        self._begin(m, pack, lambda told, stop: pack.edit(document, number, words, told, stop))

    def _made(self, m: Space, event: gr.EventData, request: gr.Request) -> Iterator[tuple]:
        """A pack that is planned, so that it can be said how long it takes; nothing is built yet."""
        name, source = " ".join(sent(event, "name").split()), sent(event, "source")
        writer = m.engine.base.id if sent(event, "writer") == "here" else "trained"
        how = {"shard": sent(event, "shard", int), "epochs": sent(event, "epochs", int), "generator": writer}
        with self.carrier.received(request) as files:
            if source == "files" and not files:
                raise InputError("Choose the files that the pack is made of.")
            if source == "slots" and name in [pack.name for pack in m.packs()]:
                raise InputError(f"There is a pack {name!r} already; choose another name.")
            paths = files if source == "files" else []

            def plan(told):
                return m.pack(name, *paths, base=bases.DEFAULT, build=False, **how)

            pack = yield from _shown(f"Preparing {name}", plan, files)
        self._forget(m, pack.name)
        yield pack.name, gr.skip(), "", gr.skip()

    def _imported(self, m: Space, name: str, request: gr.Request) -> Iterator[tuple]:
        with self.carrier.received(request) as files:
            if len(files) != 1:
                raise InputError("Choose one file that holds a pack.")
            pack = yield from _shown(
                f"Bringing in {name}", lambda told: m.import_pack(files[0], name, bases.DEFAULT), files
            )
        self._forget(m, pack.name)
        gr.Info(f"The pack {pack.name} is here. Its weights are what they were where it was made.")
        yield pack.name, gr.skip(), "", gr.skip()

    def _exported(self, pack, request: gr.Request) -> Iterator[tuple]:
        with self.carrier.sending(f"{pack.name}.pack", request) as (file, ticket):
            yield from _shown(f"Exporting {pack.name}", lambda told: pack.export(file), [file])
            made = {"name": file.name, "url": f"{PATH}/{ticket}", "made": time.time_ns()}
        yield gr.skip(), gr.skip(), "", json.dumps(made)
        yield (gr.skip(),) * 4  # gradio sends what came last once more at the end: it would be saved twice

    # -- where it all is ------------------------------------------------------------------------------------------

    def beside(self, here: Here) -> None:
        """In a conversation: what is asked there."""
        self.here = gr.HTML("", js_on_load=script("packs.js"), elem_id="mounted")

    def view(self, here: Here) -> None:
        self.before, self.mark = gr.State(()), gr.State(())
        self.tick = gr.Timer(LOOK, active=False)  # while the tab is shown
        code = script("dialog.js") + script("packs.js")
        with gr.Row(equal_height=False, elem_id="packs"):
            with gr.Column(scale=3, min_width=250, elem_id="pack-shelf"):
                self.shelf = gr.HTML(shelf([], None), js_on_load=code, elem_id="pack-list")
                self.form = gr.HTML("", js_on_load=script("dialog.js") + script("pack-form.js"), elem_id="pack-make")
            with gr.Column(scale=8, min_width=320, elem_id="pack-one"):
                self.head = gr.HTML(head(None), js_on_load=code, elem_id="pack-head")
                self.doing = gr.HTML("", js_on_load=code, elem_id="pack-work")
                self.documents = gr.HTML("", js_on_load=code, elem_id="pack-documents")
                with gr.Column(visible=False, elem_id="pack-more") as self.more:
                    self.asking.view(here)
                    self.reflections.view(here)
        self.out = gr.HTML("", html_template="<i></i>", js_on_load=script("download.js"), elem_id="pack-out")

    def wire(self, here: Here, report: Report) -> None:
        looks = [here.tab, here.pack, here.session, self.before]
        shows = [self.shelf, self.head, self.doing, self.documents, self.more, self.mark, self.before]
        follow = {"fn": plainly(self.follow), "inputs": looks, "outputs": shows, **QUIET}
        acts = [here.pack, here.session, report.sheet, self.out]
        here.tab.change(lambda tab: gr.Timer(active=tab == PACKS), here.tab, self.tick, **QUIET)
        for happens in (self.tick.tick, here.tab.change, here.pack.change, here.session.change):
            happens(**follow, concurrency_id="shelf", concurrency_limit=1)
        here.tab.change(plainly(self._form), here.tab, self.form, **QUIET)
        here.session.change(plainly(self.line), here.session, self.here, **QUIET)
        for happens in (here.version.change, here.tab.change):
            happens(plainly(self.line), here.session, self.here, **QUIET)
        for panel in (
            self.shelf, self.form, self.head, self.doing, self.documents, self.here, self.reflections.rows
        ):  # fmt: skip
            panel.select(
                plainly(self.act), [here.pack, here.session], acts, concurrency_limit=None, trigger_mode="multiple",
                **QUIET,
            ).then(**follow).then(plainly(self.line), here.session, self.here, **QUIET)  # fmt: skip
        self.asking.wire(here)
        self.reflections.wire(here, self.mark, self.tick)

    def _form(self, tab: str, request: gr.Request) -> str:
        return form(self.carrier.inbox(request)) if tab == PACKS else gr.skip()


def _built(pack, told, stop):
    """The certificate of a deletion that was waiting for this; None if there was none."""
    waited = [number for number, done in enumerate(pack.certificates()) if done.waiting]
    pack.build((), told, stop)
    return pack.certificates()[waited[-1]] if waited else None


def changes(folder: Path) -> tuple:
    """Changes with the files of a pack."""
    found = []
    for file in sorted([*folder.glob("*.json"), *folder.glob("shards/*/*.json")]):
        try:
            found.append((str(file), file.stat().st_mtime_ns))
        except OSError:  # gone meanwhile
            continue
    return tuple(found)


def _shown(title: str, do: Callable, files: Sequence[Path]) -> Iterator:
    """Followed in a report, which closes when it fails, too; an error names files without their folder."""
    same = gr.skip()
    try:
        return (yield from followed(do, lambda bar: (same, same, working(title)(bar), same)))
    except MamError as error:
        yield same, same, "", same
        said = str(error)
        for file in files:
            said = said.replace(str(file), file.name)
        raise type(error)(said) from error
