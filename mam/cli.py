"""The command line: a thin shell around the Python API.

    python -m mam chat            talk in the terminal
    python -m mam slots           what is remembered
    python -m mam --help          everything else

Knows arguments and how to print; whatever it does, it does through `mam.open`. Errors are one line on stderr,
with exit code 2.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterable

import mam
from mam.errors import InputError, MamError
from mam.values import STATES, Candidate, Read, Slot, Turn, Write

SHORT_ID = 8  # characters of an id that are shown; any beginning that fits one slot is understood
ELSEWHERE = {  # name: (module with add_arguments(parser) and run(options), what it is about)
    "train": ("mam.train.cli", "train the memory model"),
    "attach": ("mam.train.attach", "train its integrator for another base"),
    "bench": ("mam.bench.cli", "measure it"),
}
HELP = """\
/slots            what is remembered
/reads            what the last turn read
/writes           what the last turn kept and what not
/edit ID TEXT     change a memory
/delete ID        put a memory into the trash
/new [TITLE]      start a new session
/sessions         all sessions; /resume TITLE goes on with one
/quit             leave"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for an error a user can mend, 130 when interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments and arguments[0] in ELSEWHERE:
            return _elsewhere(arguments[0], arguments[1:])
        options = _parser().parse_args(arguments)
        return options.run(options) or 0
    except MamError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough: "python -m mam slots | head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


# -- arguments ----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--base", default="smollm2-135m", help="smollm2-135m, a hub id, a folder or a GGUF file")
    shared.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    shared.add_argument("--user", default="local", help="whose memory")
    shared.add_argument("--path", help="the folder of the memories (default: $MAM_HOME or the platform's place)")
    shared.add_argument("--memory", help="the folder of a memory model (default: the shipped one)")
    parser = argparse.ArgumentParser(prog="python -m mam", description="A memory for a frozen language model.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable, about: str, **arguments: dict) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about, parents=[shared])
        for argument, settings in arguments.items():
            added.add_argument(argument.replace("__", "--"), **settings)
        added.set_defaults(run=run)
        return added

    slot = {"id": {"help": "id of a memory, or its beginning", "metavar": "ID"}}
    command("chat", _chat, "talk in the terminal", __session={"help": "resume a session, by title or id"})
    command(
        "ask",
        _ask,
        "say one thing and print the reply",
        text={"metavar": "TEXT"},
        __session={"help": "in this session instead of a new one"},
    )
    command("sessions", _sessions, "list the sessions")
    command("slots", _slots, "list what is remembered", __state={"choices": [*STATES, "all"], "default": "active"})
    command("add", _add, "remember a text as it is", text={"metavar": "TEXT"})
    command("edit", _edit, "change a memory", **slot, text={"metavar": "TEXT"})
    command("delete", _delete, "put a memory into the trash", **slot)
    command("restore", _restore, "make a memory active again", **slot)
    command("purge", _purge, "overwrite a memory for good", **slot)
    command("export", _export, "write all memories to a file of JSON lines", file={"metavar": "FILE"})
    command("import", _import, "add the memories of an exported file", file={"metavar": "FILE"})
    command("ingest", _ingest, "turn a document (.txt, .md) into memories", file={"metavar": "FILE"})
    for name, (_, about) in ELSEWHERE.items():
        commands.add_parser(name, help=about, add_help=False)
    return parser


def _elsewhere(name: str, arguments: list[str]) -> int:
    """A command with arguments of its own; its module is only imported when it is used."""
    module, about = ELSEWHERE[name]
    try:
        command = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f'"{name}" needs {error.name}, which is not installed; see the README.') from error
    parser = argparse.ArgumentParser(prog=f"python -m mam {name}", description=f"{about[0].upper()}{about[1:]}.")
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments)) or 0


def _open(options: argparse.Namespace):
    return mam.open(options.path, options.base, options.user, options.device, options.memory)


# -- commands -----------------------------------------------------------------------------------------------------


def _ask(options: argparse.Namespace) -> None:
    _reply(_open(options).session(options.session), options.text)


def _sessions(options: argparse.Namespace) -> None:
    for session in _open(options).sessions():
        print(f"{session.id[:SHORT_ID]}  {session.created.astimezone():%Y-%m-%d %H:%M}  {session.title}")


def _slots(options: argparse.Namespace) -> None:
    state = None if options.state == "all" else options.state
    _print_slots(_open(options).slots(state), show_state=state is None)


def _add(options: argparse.Namespace) -> None:
    _print_slots([_open(options).add(options.text)])


def _edit(options: argparse.Namespace) -> None:
    m = _open(options)
    _print_slots([m.edit(_find(m, options.id), options.text)])


def _delete(options: argparse.Namespace) -> None:
    m = _open(options)
    slot = m.delete(_find(m, options.id))
    print(f'In the trash: "{slot.text}". Bring it back with: restore {slot.id[:SHORT_ID]}')


def _restore(options: argparse.Namespace) -> None:
    m = _open(options)
    _print_slots([m.restore(_find(m, options.id))])


def _purge(options: argparse.Namespace) -> None:
    m = _open(options)
    done = m.purge(_find(m, options.id))
    print(
        f"Purged: {len(done.slots)} memories with {done.versions} versions, quoted in {done.turns} turns. "
        f"Searched afterwards, without a trace: {', '.join(place.name for place in done.searched)}."
    )


def _export(options: argparse.Namespace) -> None:
    print(f"{_open(options).export(options.file)} memories written to {options.file}.")


def _import(options: argparse.Namespace) -> None:
    print(f"{len(_open(options).import_(options.file))} memories added.")


def _ingest(options: argparse.Namespace) -> None:
    print(f"{len(_open(options).ingest(options.file))} memories made of {options.file}.")


# -- talking ------------------------------------------------------------------------------------------------------


def _chat(options: argparse.Namespace) -> None:
    m = _open(options)
    talk = Talk(m, m.session(options.session))
    about = m.about()
    print(f"{about['base']} on {about['device']}, {len(m.slots())} memories. /help lists the commands.")
    while talk.going:
        try:
            line = input("\n> ")
        except EOFError:
            print()
            return
        try:
            talk.hear(line)
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
            self.last = _reply(self.chat, line) if line.strip() else self.last
            return
        commands = {"/quit": self._quit, "/slots": self._slots, "/reads": self._reads, "/writes": self._writes,
                    "/edit": self._edit, "/delete": self._delete, "/new": self._new, "/sessions": self._sessions,
                    "/resume": self._resume}  # fmt: skip
        commands.get(name, lambda _: print(HELP))(rest.strip())

    def _quit(self, _: str) -> None:
        self.going = False

    def _slots(self, _: str) -> None:
        _print_slots(self.m.slots())

    def _reads(self, _: str) -> None:
        if self.last:
            print("\n".join(_reads(self.last)))

    def _writes(self, _: str) -> None:
        if self.last:
            print("\n".join([*map(_write_line, self.last.writes), *map(_rejected_line, self.last.rejected)]))

    def _edit(self, rest: str) -> None:
        id, _, text = rest.partition(" ")
        _print_slots([self.m.edit(_find(self.m, id), text)])

    def _delete(self, rest: str) -> None:
        _print_slots([self.m.delete(_find(self.m, rest))], show_state=True)

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


def _reply(chat, text: str) -> Turn:
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
        if event.kind == "token":
            print(event.data, end="", flush=True)
        elif event.kind == "turn":
            print()
            for write in event.data.writes:
                print(f"  {_write_line(write)}")
            return event.data


# -- printing -----------------------------------------------------------------------------------------------------


def _find(m, id: str) -> str:
    """The full id of the slot whose id starts so."""
    found = [slot.id for slot in m.slots(None) if id and slot.id.startswith(id)]
    if len(found) > 1 and id not in found:
        raise InputError(f"{len(found)} memories have an id that starts with {id!r}; give more of it.")
    return id if id in found or not found else found[0]


def _print_slots(slots: Iterable[Slot], show_state: bool = False) -> None:
    slots = list(slots)
    for slot in slots:
        state = f"  {slot.state}" if show_state else ""
        print(f"{slot.id[:SHORT_ID]}  {slot.told.astimezone():%Y-%m-%d}{state}  {slot.text}")
    if not slots:
        print("Nothing is remembered yet.")


def _write_line(write: Write) -> str:
    relation = {"new": "kept", "duplicate": "known already", "update": "updated"}[write.relation]
    return f"{relation}: {write.slot.text} ({write.score:.2f})"


def _rejected_line(candidate: Candidate) -> str:
    return f"not kept: {candidate.said} ({candidate.score:.2f}, {candidate.why})"


def _reads(turn: Turn) -> list[str]:
    def line(read: Read) -> str:
        return f"{read.weight:5.2f}  {'' if read.given else '(not given) '}{read.slot.text}"

    return [*map(line, turn.reads), f"{turn.null_weight:5.2f}  nothing"]
