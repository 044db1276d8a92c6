"""Talking in the terminal: a conversation line by line, and how slots and turns look there.

For `cli`, which parses what comes after `python -m mam`. Knows the public API of a space, and prints.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable

from mam.errors import EndpointError, InputError, MamError
from mam.values import Candidate, Read, Slot, Turn, Write

SHORT_ID = 8  # characters of an id that are shown; any beginning that fits one slot is understood
HELP = """\
/slots            what is remembered
/reads            what the last turn read
/writes           what the last turn kept and what not
/edit ID TEXT     change a memory
/delete ID        put a memory into the trash
/new [TITLE]      start a new session
/sessions         all sessions; /resume TITLE goes on with one
/quit             leave"""


def talk(m, chat) -> None:
    """Read lines until the end of the input or /quit. Raises InputError for bytes that are no text."""
    talking = Talk(m, chat)
    about = m.about()
    print(f"{about['base']} on {about['device']}, {len(m.slots())} memories. /help lists the commands.")
    while talking.going:
        try:
            line = input("\n> ")
        except EOFError:
            print()
            return
        except UnicodeDecodeError as error:  # the rest of a file is lost with the line
            raise InputError(
                f"What was typed or piped in is not {error.encoding.upper()} text (byte {error.start}); "
                "save it as UTF-8, then go on. What was said before it is kept."
            ) from error
        try:
            talking.hear(line)
        except MamError as error:
            print(error, file=sys.stderr)


class Talk:
    """A conversation in the terminal: a line is a message, or a command if it starts with a slash."""

    def __init__(self, m, chat):
        self.m, self.chat = m, chat
        self.last: Turn | None = next(reversed(chat.turns()), None)
        self.going = True

    def hear(self, line: str) -> None:
        name, _, rest = line.strip().partition(" ")
        if not name.startswith("/"):
            self.last = reply(self.chat, line) if line.strip() else self.last
            return
        commands = {"/quit": self._quit, "/slots": self._slots, "/reads": self._reads, "/writes": self._writes,
                    "/edit": self._edit, "/delete": self._delete, "/new": self._new, "/sessions": self._sessions,
                    "/resume": self._resume}  # fmt: skip
        commands.get(name, lambda _: print(HELP))(rest.strip())

    def _quit(self, _: str) -> None:
        self.going = False

    def _slots(self, _: str) -> None:
        print_slots(self.m.slots())

    def _reads(self, _: str) -> None:
        if self.last:
            print("\n".join(_reads(self.last)))

    def _writes(self, _: str) -> None:
        if self.last:
            print("\n".join([*map(_write_line, self.last.writes), *map(_rejected_line, self.last.rejected)]))

    def _edit(self, rest: str) -> None:
        id, _, text = rest.partition(" ")
        was = self.m.slot(find(self.m, id))
        print_slots([self.m.edit(was.id, text)])
        print_repeating(self.m, was)

    def _delete(self, rest: str) -> None:
        slot = self.m.delete(find(self.m, rest))
        print_slots([slot], show_state=True)
        print_repeating(self.m, slot)

    def _new(self, title: str) -> None:
        self.chat, self.last = self.m.session(title or None), None
        print("A new session.")

    def _resume(self, title: str) -> None:
        self.chat = self.m.session(title)
        self.last = next(reversed(self.chat.turns()), None)
        print(f"Session: {self.chat.title}")

    def _sessions(self, _: str) -> None:
        for session in self.m.sessions():
            print(f"{session.title} ({session.turns} turns)")


def reply(chat, text: str) -> Turn:
    """Print a reply as it comes; the first interrupt only stops the reply."""
    stop = threading.Event()
    stream = chat.stream(text, stop=stop)
    while True:
        try:
            event = next(stream)
        except KeyboardInterrupt:
            stop.set()
            stream.close()
            print(" (stopped)")
            return chat.turns()[-1]
        except EndpointError:
            print()
            raise
        if event.kind == "token":
            print(event.data, end="", flush=True)
        elif event.kind == "turn":
            print()
            for write in event.data.writes:
                print(f"  {_write_line(write)}")
            return event.data


# -- printing -----------------------------------------------------------------------------------------------------


def find(m, id: str, among: Iterable[str] | None = None) -> str:
    """The full id of the slot, or of the one `among` these, whose id starts so."""
    if among is None:
        among = [slot.id for slot in m.slots(None, id=id, limit=9)] if id else []
    found = [each for each in among if id and each.startswith(id)]
    if len(found) > 1 and id not in found:
        raise InputError(f"{len(found)} ids start with {id!r}; give more of it.")
    return id if id in found or not found else found[0]


def print_slots(slots: Iterable[Slot], show_state: bool = False) -> None:
    slots = list(slots)
    for slot in slots:
        state = f"  {slot.state}" if show_state else ""
        print(f"{slot.id[:SHORT_ID]}  {slot.told.astimezone():%Y-%m-%d}{state}  {slot.text}")
    if not slots:
        print("Nothing is remembered yet.")


def print_repeating(m, slot: Slot) -> None:
    """Name the memories that keep saying what this one said."""
    if others := m.repeating(slot):
        print("The same words stay in:")
        print_slots(others)


def _write_line(write: Write) -> str:
    relation = {"new": "kept", "duplicate": "known already", "update": "updated"}[write.relation]
    return f"{relation}: {write.slot.text} ({write.score:.2f})"


def _rejected_line(candidate: Candidate) -> str:
    return f"not kept: {candidate.said} ({candidate.score:.2f}, {candidate.why})"


def _reads(turn: Turn) -> list[str]:
    def line(read: Read) -> str:
        return f"{read.weight:5.2f}  {'' if read.given else '(not given) '}{read.slot.text}"

    return [*map(line, turn.reads), f"{turn.null_weight:5.2f}  nothing"]
