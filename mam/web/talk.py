"""The chat: conversations in the side bar, what is said and answered, and under each reply what the memory did.

A quiet line under each reply ("from memory: 2 slots") opens that turn in the inspector, see `inside`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from html import escape

import gradio as gr

from mam.chat import Chat
from mam.errors import EndpointError, InputError, MamError
from mam.packs.shelf import PACK_SLOT
from mam.space import cleaned
from mam.values import Session, Turn
from mam.web.desk import Desk, plainly
from mam.web.here import QUIET, Here, script

WELCOME = '<p class="empty">Tell it something about you, then ask about it later, even in another conversation.</p>'
TEMPORARY = '<p class="empty">A temporary conversation: it reads the memory, and nothing said in it is kept.</p>'
AGAIN = 0.7  # temperature of a second try: the first was the likeliest reply


class Talk:
    """The handlers of the chat; `shows` is what most of them return, in the order of `_shows`."""

    def __init__(self, desk: Desk):
        self.desk = desk
        self._stops: dict[tuple[str, str], threading.Event] = {}

    # -- talking --------------------------------------------------------------------------------------------------

    def send(self, text: str, session: str | None, editing: bool, request: gr.Request) -> Iterator:
        """Say something, instead of the last message where that is edited; again for every piece of the reply."""
        chat = None
        try:
            text = cleaned(text)
            chat = self.desk.chat(session, request)
            if editing:
                chat.take_back()
            yield from self._said(chat, text, request)
        except MamError:
            yield self._failed(chat, text, editing)
            raise

    def again(self, session: str | None, request: gr.Request) -> Iterator:
        """Another reply to the last message."""
        chat = self.desk.chat(session, request)
        text = chat.take_back().text
        try:
            yield from self._said(chat, text, request, temperature=AGAIN)
        except MamError:
            yield self._failed(chat, text, True)
            raise

    def _failed(self, chat: Chat | None, text: str, instead: bool) -> tuple:
        """The text goes back into its box: nothing that was typed is lost. Sent again, it is in the place of the last
        message only if that is what is left of this one: the one that it was to replace is gone already."""
        editing = gr.skip()
        if chat and instead:
            said = chat.turns()
            editing = bool(said) and said[-1].text == text
        return gr.skip(), gr.skip(), "", gr.skip(), gr.skip(), text, editing

    def _said(self, chat: Chat, text: str, request: gr.Request, **manner) -> Iterator:
        key, same, reply = self._key(request), gr.skip(), ""
        stop = self._stops[key] = threading.Event()
        rest = (same, False)  # the box, and whether the last message is edited
        self.desk.show(chat.id, request)
        try:
            yield same, conversation(chat.turns()), exchange(text, "…"), same, same, *rest
            with closing(chat.stream(text, stop=stop, **manner)) as events:  # closed with the tab; what was said stays
                for event in events:
                    if not self.desk.shows(chat.id, request):
                        yield (same,) * 7  # another one was opened: this reply is kept, and shown when they come back
                    elif event.kind == "read":
                        before, listed = conversation(chat.turns()), self._sessions(chat.id, request)
                        yield chat.id, before, exchange(text, "…"), same, listed, *rest
                    elif event.kind == "token":
                        reply += event.data
                        yield same, same, exchange(text, reply), same, same, *rest
                    elif event.kind == "turn":
                        yield same, conversation(chat.turns()), "", event.data.id, same, *rest
        except EndpointError as error:
            if not reply:
                raise
            gr.Warning(str(error))  # it broke off: what it said stays, as when it is stopped
            if self.desk.shows(chat.id, request):
                yield same, conversation(chat.turns()), "", chat.turns()[-1].id, same, *rest
        finally:
            if self._stops.get(key) is stop:  # not that of another reply, begun meanwhile in another conversation
                del self._stops[key]
        yield (same,) * 7  # Gradio sends what came last once more at the end: over a conversation opened by then

    def stop(self, request: gr.Request) -> None:
        if stop := self._stops.get(self._key(request)):
            stop.set()

    def _key(self, request: gr.Request) -> tuple[str, str]:
        return self.desk.user_of(request), request.session_hash or ""

    def line(self, event: gr.EventData, session: str | None, request: gr.Request) -> tuple:
        """A click in the log: look into a turn, or edit the last message; (turn, box, editing)."""
        if event.act == "edit":
            said = self.desk.chat(session, request).turns()
            return gr.skip(), said[-1].text if said else "", bool(said)
        return self.desk.turn(event.turn, request).id, gr.skip(), gr.skip()

    # -- conversations --------------------------------------------------------------------------------------------

    def sessions(self, event: gr.EventData, session: str | None, find: str, away: bool, request: gr.Request) -> tuple:
        """A click in the list of conversations: open, rename, archive or bring back one."""
        m, id = self.desk.space(request), event.session
        if event.act == "open":
            return self._shows(self.desk.chat(id, request), find, away, request)
        if event.act == "rename":
            m.rename_session(id, event.title)
        else:
            m.archive_session(id, event.act == "archive")
        return *[gr.skip()] * 4, self._sessions(session, request, find, away), gr.skip(), gr.skip()

    def begin(self, session: str | None, find: str, away: bool, request: gr.Request) -> tuple:
        """An empty conversation; it is kept once something is said in it. What is typed already stays in the box."""
        self.desk.leave(request, session)
        self.desk.show(None, request)
        return None, WELCOME, "", None, self._sessions(None, request, find, away), gr.skip(), False

    def begin_temporary(self, session: str | None, find: str, away: bool, request: gr.Request) -> tuple:
        self.desk.leave(request, session)
        chat = self.desk.chat(None, request, temporary=True)
        self.desk.show(chat.id, request)
        return chat.id, TEMPORARY, "", None, self._sessions(chat.id, request, find, away), gr.skip(), False

    def listed(self, session: str | None, find: str, away: bool, request: gr.Request) -> str:
        return self._sessions(session, request, find, away)

    def follow(self, session: str | None, find: str, away: bool, request: gr.Request) -> tuple:
        """The log as it is now: a purge, here or in another tab, takes words out of it, or all of it away."""
        if session is None or self._key(request) in self._stops:
            return (gr.skip(),) * 7
        try:
            turns = self.desk.chat(session, request).turns()
        except InputError:
            return self.begin(session, find, away, request)
        log = gr.skip() if not turns else conversation(turns)
        return gr.skip(), log, *[gr.skip()] * 5

    def _shows(self, chat: Chat, find: str, away: bool, request: gr.Request) -> tuple:
        turns = chat.turns()
        if not turns:
            raise InputError("This conversation is not here any more.")
        known = self._sessions(chat.id, request, find, away)
        self.desk.show(chat.id, request)
        return chat.id, conversation(turns), "", turns[-1].id, known, gr.skip(), False

    def _sessions(self, session: str | None, request: gr.Request, find: str = "", away: bool = False) -> str:
        """Conversations in which something was said: those in use, or those put away."""
        found = [known for known in self.desk.space(request).sessions(archived=away) if known.turns]
        return sessions([known for known in found if find.strip().casefold() in known.title.casefold()], session, away)

    # -- where it all is ------------------------------------------------------------------------------------------

    def sidebar(self, here: Here) -> None:
        self.new = gr.Button("New conversation", size="md", elem_id="new")
        self.secret = gr.Button("or a temporary one", size="sm", elem_id="temporary")
        self.find = gr.Textbox(
            placeholder="Search …", show_label=False, container=False, max_lines=1, elem_id="find-session",
            label="Search conversations",
        )  # fmt: skip
        self.list = gr.HTML(sessions([], None), js_on_load=script("sessions.js"), elem_id="sessions")
        self.away = gr.Checkbox(False, label="Put away", container=False, elem_id="away")

    def view(self, here: Here) -> None:
        self.editing = gr.State(False)
        with gr.Column(elem_id="log"), gr.Column(elem_id="said"):
            self.before = gr.HTML(WELCOME, js_on_load=script("talk.js"))
            self.live = gr.HTML("", js_on_load=None)
        with gr.Row(elem_id="say", equal_height=True):
            self.text = gr.Textbox(
                placeholder="Tell it something, or ask …", show_label=False, container=False, max_lines=6, scale=8,
                autofocus=True, elem_id="text", label="Message",
            )  # fmt: skip
            self.go = gr.Button("Send", variant="primary", scale=1, min_width=84, elem_id="send")
            self.halt = gr.Button("Stop", scale=1, min_width=84, visible=False, elem_id="stop")
            self.retry = gr.Button("Again", scale=1, min_width=84, elem_id="retry")

    def wire(self, here: Here) -> None:
        shows = [here.session, self.before, self.live, here.turn, self.list, self.text, self.editing]
        listing = [here.session, self.find, self.away]
        talking = gr.State("")  # the message on its way, so that the box can be emptied at once
        buttons = [self.go, self.halt, self.retry]
        # one after the other, so that what was opened last is shown; a click counts even if the page still waits for
        # the one before, whose end Gradio loses now and then as it closes the stream of events
        in_turn = QUIET | {"concurrency_id": "conversation", "concurrency_limit": 1, "trigger_mode": "multiple"}
        start, ready = ([gr.update(visible=halt == on) for halt in (False, True, False)] for on in (True, False))
        for happens in (self.text.submit, self.go.click):
            happens(lambda said: ("", said, *start), self.text, [self.text, talking, *buttons], **QUIET).then(
                plainly(self.send), [talking, here.session, self.editing], shows,
                concurrency_limit=None, **QUIET,
            ).then(lambda: ready, None, buttons, **QUIET)  # fmt: skip
        self.retry.click(lambda: start, None, buttons, **QUIET).then(
            plainly(self.again), here.session, shows, concurrency_limit=None, **QUIET
        ).then(lambda: ready, None, buttons, **QUIET)
        self.halt.click(plainly(self.stop), None, None, queue=False, **QUIET)
        self.new.click(plainly(self.begin), listing, shows, **in_turn)
        self.secret.click(plainly(self.begin_temporary), listing, shows, **in_turn)
        self.list.select(plainly(self.sessions), listing, shows, **in_turn)
        here.version.change(plainly(self.follow), listing, shows, **in_turn)
        self.before.select(plainly(self.line), here.session, [here.turn, self.text, self.editing], **QUIET)
        for happens in (here.version.change, self.find.change, self.away.change):
            happens(plainly(self.listed), listing, self.list, **QUIET)


# -- HTML; every text is escaped here -----------------------------------------------------------------------------


def sessions(found: Sequence[Session], current: str | None, away: bool = False) -> str:
    if not found:
        return f'<p class="empty">{"Nothing was put away." if away else "No conversations yet."}</p>'

    def line(session: Session) -> str:
        here = ' aria-current="true"' if session.id == current else ""
        turns = f"{session.created.astimezone():%d %b} · {session.turns} message{'s' if session.turns != 1 else ''}"
        act, label = ("restore", "Bring back") if away else ("archive", "Put away")
        return (
            f'<li data-session="{escape(session.id)}"><button data-act="open"{here}>'
            f"<span>{escape(session.title)}</span><small>{turns}</small></button>"
            f'<div class="acts"><button data-act="rename">Rename</button>'
            f'<button data-act="{act}">{label}</button></div></li>'
        )

    return f'<ul class="sessions">{"".join(map(line, found))}</ul>'


def exchange(text: str, reply: str, below: str = "") -> str:
    """One message and its reply, as plain text: markdown or HTML in it could load a picture from another machine."""
    said = f'<p class="you"><span class="unseen">You: </span>{escape(text)}</p>' if text else ""
    answer = f'<p class="it"><span class="unseen">Reply: </span>{escape(reply)}</p>' if reply else ""
    return f'<div class="exchange">{said}{answer}{below}</div>'


def conversation(turns: Sequence[Turn]) -> str:
    if not turns:
        return WELCOME
    return "".join(exchange(turn.text, turn.reply, _below(turn, last=turn is turns[-1])) for turn in turns)


def _below(turn: Turn, last: bool) -> str:
    """The quiet line: what the memory did, a button that opens the turn."""
    edit = '<button data-act="edit">edit the message</button>' if last and turn.text else ""
    stopped = "<span>stopped</span>" if turn.stopped else ""
    return f'<p class="below"><button data-turn="{escape(turn.id)}">{summary(turn)}</button>{stopped}{edit}</p>'


def summary(turn: Turn) -> str:
    """What the memory did in a turn, in a few words."""
    reads = [read for read in turn.reads if read.given]
    given = [read.slot.id.startswith(PACK_SLOT) for read in reads]
    packs = len({read.slot.document for read, packed in zip(reads, given, strict=True) if packed})
    found = [_slots(given.count(False))] if False in given else []
    if packs:
        found.append(f"{packs} pack{'s' if packs != 1 else ''}")
    kept = sum(write.relation != "duplicate" for write in turn.writes)
    read = "not in memory" if turn.abstained else f"from memory: {' and '.join(found)}" if found else "nothing read"
    return f"{read} · kept {_slots(kept)}" if kept else read


def _slots(count: int) -> str:
    return f"{count} slot{'s' if count != 1 else ''}"
