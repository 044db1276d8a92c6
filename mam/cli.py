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
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from tqdm import tqdm

import mam
from mam.errors import InputError, MamError
from mam.terminal import SHORT_ID, find, print_repeating, print_slots, reply, talk
from mam.values import STATES

BASES = "smollm2-135m, gemma3-270m, a hub id, a folder, a GGUF file, or openai:MODEL@URL for a server"
ELSEWHERE = {  # name: (module with add_arguments(parser) and run(options), what it is about)
    "train": ("mam.train.cli", "train the memory model"),
    "attach": ("mam.train.attach", "train its integrator for another base"),
    "bench": ("mam.bench.cli", "measure it"),
    "account": ("mam.accounts", "add somebody who may log in to the page, or change a password"),
    "pack": ("mam.packs.cli", "knowledge in weights: documents that a small language model has learned"),
    "serve": ("mam.serve.cli", "offer base and memory to programs: OpenAI's chat API, REST and MCP"),
    "key": ("mam.serve.keys", "make an API key for a user of the server, or take all of theirs away"),
    "mcp": ("mam.serve.mcp", "offer the memory as MCP tools over stdin and stdout"),
}


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


def add_shared(parser: argparse.ArgumentParser) -> None:
    """What says whose memory, with which networks; for `open_space`."""
    parser.add_argument("--base", default="smollm2-135m", help=BASES)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--user", default="local", help="whose memory")
    parser.add_argument("--path", help="the folder of the memories (default: $MAM_HOME or the platform's place)")
    parser.add_argument("--memory", help="the folder of a memory model (default: the shipped one)")
    parser.add_argument("--store", metavar="URL", help="a PostgreSQL server: postgresql+psycopg://USER@HOST/DATABASE")
    parser.add_argument(
        "--capacity", type=int, metavar="N", help="from now on remember at most N at once, the most useful (0: all)"
    )


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    add_shared(shared)
    parser = argparse.ArgumentParser(prog="python -m mam", description="A memory for a frozen language model.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable, about: str, **arguments: dict) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about, parents=[shared])
        for argument, settings in arguments.items():
            name_of = argument.replace("__", "--")
            added.add_argument(name_of.replace("_", "-") if name_of.startswith("--") else name_of, **settings)
        added.set_defaults(run=run)
        return added

    slot = {"id": {"help": "id of a memory, or its beginning", "metavar": "ID"}}
    temporary = {"__temporary": {"action": "store_true", "help": "write nothing of this conversation"}}
    resumed = {"__session": {"help": "resume a session, by title or id"}}
    command("chat", _chat, "talk in the terminal", **resumed, **temporary)
    command(
        "ask",
        _ask,
        "say one thing and print the reply",
        text={"metavar": "TEXT"},
        __session={"help": "in this session instead of a new one"},
        **temporary,
    )
    command(
        "sessions",
        _sessions,
        "list the sessions",
        __archived={"action": "store_true", "help": "those that were put away"},
        __archive={"metavar": "ID", "help": "put one away"},
        __unarchive={"metavar": "ID", "help": "and back"},
    )
    command(
        "slots",
        _slots,
        "list what is remembered",
        __state={"choices": [*STATES, "all"], "default": "active"},
        __as_of={"metavar": "WHEN", "help": "as it was at a time (2026-11-22T12:00) or data version (17)"},
        __find={"metavar": "TEXT", "help": "only those with these words"},
        __tag={"help": "only those with this tag"},
        __speaker={"help": "only what this person said"},
        __document={"metavar": "NAME", "help": "only those from this document"},
        __limit={"type": _positive, "metavar": "N", "help": "at most N"},
        __page={"type": _positive, "metavar": "P", "default": 1, "help": "the P-th N of them"},
    )
    command(
        "search",
        _search,
        "search what is remembered, best first",
        query={"metavar": "QUERY"},
        __by={"choices": ["reader", "words", "id"], "default": "reader"},
        __limit={"type": _positive, "metavar": "N", "default": 8},
    )
    command("versions", _versions, "everything a memory has been", **slot)
    command("add", _add, "remember a text as it is", text={"metavar": "TEXT"})
    command("edit", _edit, "change a memory", **slot, text={"metavar": "TEXT"})
    command("delete", _delete, "put a memory into the trash", **slot)
    command("restore", _restore, "make a memory active again", **slot)
    command("archive", _archive, "put a memory away: kept, not read", **slot)
    command("pin", _pin, "never archive this memory to make room", **slot)
    command("unpin", _unpin, "it may be archived again", **slot)
    command("tag", _tag, "give a memory these tags instead of those it had", **slot, tags={"nargs": "*"})
    command(
        "merge",
        _merge,
        "make one memory of several; the first stays",
        ids={"nargs": "+", "metavar": "ID"},
        __text={"help": "with this text"},
    )
    command("undo", _undo, "take back the last change")
    command(
        "consolidate",
        _consolidate,
        "merge memories that say the same",
        __preview={"action": "store_true", "help": "only show which"},
    )
    command(
        "purge",
        _purge,
        "overwrite memories for good",
        ids={"nargs": "*", "metavar": "ID"},
        __session={"metavar": "ID", "help": "a conversation, and all that was told in it"},
        __everything={"action": "store_true", "help": "all there is of this user"},
        __json={"metavar": "FILE", "help": "write the certificate there"},
    )
    command(
        "export",
        _export,
        "write all memories to a file of JSON lines",
        file={"metavar": "FILE"},
        __complete={"action": "store_true", "help": "with conversations, versions and the trash"},
    )
    command(
        "import",
        _import,
        "add an exported file, or what conversations (JSON) tell",
        file={"metavar": "FILE"},
        __skip_bad={"action": "store_true", "help": "leave out what cannot be read instead of importing nothing"},
    )
    command("ingest", _ingest, "turn a document (.txt, .md, .pdf) into memories", file={"metavar": "FILE"})
    for name, (_, about) in ELSEWHERE.items():
        commands.add_parser(name, help=about, add_help=False)
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


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


def open_space(options: argparse.Namespace, user: str | None = None):
    """The space that the shared arguments name, or that of another user."""
    return mam.open(
        options.path, options.base, user or options.user, options.device, options.memory,
        store=options.store, capacity=options.capacity, progress=Bars(),
    )  # fmt: skip


class Bars:
    """Progress of what takes longer than a second, as bars on stderr; nothing where that is no terminal."""

    def __init__(self):
        self._bar, self._what = None, ""

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._bar is None or what != self._what:
            self._bar, self._what = tqdm(total=total, desc=what, disable=None, delay=1, leave=False), what
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()
            self._bar = None


# -- commands -----------------------------------------------------------------------------------------------------


def _chat(options: argparse.Namespace) -> None:
    m = open_space(options)
    talk(m, m.session(options.session, temporary=options.temporary))


def _ask(options: argparse.Namespace) -> None:
    reply(open_space(options).session(options.session, temporary=options.temporary), options.text)


def _sessions(options: argparse.Namespace) -> None:
    m = open_space(options)
    for id, archived in ((options.archive, True), (options.unarchive, False)):
        if id:
            m.archive_session(find(m, id, [session.id for session in m.sessions()]), archived)
    for session in m.sessions(archived=options.archived):
        print(f"{session.id[:SHORT_ID]}  {session.created.astimezone():%Y-%m-%d %H:%M}  {session.title}")


def _slots(options: argparse.Namespace) -> None:
    state = None if options.state == "all" else options.state
    filters = {name: getattr(options, name) for name in ("find", "tag", "speaker", "document", "limit")}
    filters["offset"] = (options.page - 1) * (options.limit or 0)
    print_slots(open_space(options).slots(state, as_of=_moment(options.as_of), **filters), show_state=state is None)


def _moment(text: str | None) -> datetime | int | None:
    if text is None or text.isdecimal():
        return text and int(text)
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise InputError(f"{text!r} is neither a time like 2026-11-22T12:00 nor a data version like 17.") from error


def _search(options: argparse.Namespace) -> None:
    print_slots(open_space(options).search(options.query, options.by, options.limit), show_state=options.by == "id")


def _versions(options: argparse.Namespace) -> None:
    m = open_space(options)
    for version in m.versions(find(m, options.id)):
        at = f"{version.at.astimezone():%Y-%m-%d %H:%M:%S}"
        print(f"{version.version:3}  {at}  {version.by:13}  {version.state:10}  {version.text}")


def _add(options: argparse.Namespace) -> None:
    print_slots([open_space(options).add(options.text)])


def _edit(options: argparse.Namespace) -> None:
    m = open_space(options)
    was = m.slot(find(m, options.id))
    print_slots([m.edit(was.id, options.text)])
    print_repeating(m, was)


def _delete(options: argparse.Namespace) -> None:
    m = open_space(options)
    slot = m.delete(find(m, options.id))
    print(f'In the trash: "{slot.text}". Bring it back with: restore {slot.id[:SHORT_ID]}')
    print_repeating(m, slot)


def _restore(options: argparse.Namespace) -> None:
    m = open_space(options)
    print_slots([m.restore(find(m, options.id))])


def _archive(options: argparse.Namespace) -> None:
    m = open_space(options)
    print_slots([m.archive(find(m, options.id))], show_state=True)


def _pin(options: argparse.Namespace, pinned: bool = True) -> None:
    m = open_space(options)
    print_slots([m.pin(find(m, options.id), pinned)])


def _unpin(options: argparse.Namespace) -> None:
    _pin(options, False)


def _tag(options: argparse.Namespace) -> None:
    m = open_space(options)
    slot = m.tag(find(m, options.id), *options.tags)
    print(f"{slot.id[:SHORT_ID]}  {', '.join(slot.tags) or 'no tags'}")


def _merge(options: argparse.Namespace) -> None:
    m = open_space(options)
    print_slots([m.merge(*(find(m, id) for id in options.ids), text=options.text)])


def _undo(options: argparse.Namespace) -> None:
    print_slots(open_space(options).undo(), show_state=True)


def _consolidate(options: argparse.Namespace) -> None:
    found = open_space(options).consolidate(preview=options.preview)
    for merged in found:
        print(f"{merged.kept.id[:SHORT_ID]}  {merged.kept.text}")
        for slot in merged.others:
            print(f"  {'would replace' if options.preview else 'replaces'}  {slot.id[:SHORT_ID]}  {slot.text}")
    if not found:
        print("No two memories say the same.")


def _purge(options: argparse.Namespace) -> None:
    if bool(options.ids) + bool(options.session) + options.everything != 1:
        raise InputError("Say what to purge: ids of memories, --session ID or --everything.")
    m = open_space(options)
    if options.everything:
        done = m.purge_everything()
    elif options.session:
        done = m.purge_session(find(m, options.session, [session.id for session in m.sessions()]))
    else:
        done = m.purge(*(find(m, id) for id in options.ids))
    if options.json:
        try:
            Path(options.json).write_text(json.dumps(asdict(done), indent=2, default=str) + "\n", encoding="utf-8")
        except OSError as error:
            print(f"The certificate could not be written to {options.json} ({error.strerror}).", file=sys.stderr)
    print(
        f"Purged: {len(done.slots)} memories with {done.versions} versions, quoted in {done.turns} turns. "
        f"Searched afterwards, without a trace: {', '.join(place.name for place in done.searched)}."
    )
    if failed := [check.slot for check in done.checks if not check.passed]:
        print(f"The base still says the words of {', '.join(failed)}: other memories or its own knowledge hold them.")
    if done.unasked:
        print(done.unasked)


def _export(options: argparse.Namespace) -> None:
    print(f"{open_space(options).export(options.file, complete=options.complete)} memories written to {options.file}.")


def _import(options: argparse.Namespace) -> None:
    def bad(number: int, why: str) -> None:
        print(f"left out: {number} ({why})", file=sys.stderr)

    print(f"{len(open_space(options).import_(options.file, bad if options.skip_bad else None))} memories added.")


def _ingest(options: argparse.Namespace) -> None:
    print(f"{len(open_space(options).ingest(options.file))} memories made of {options.file}.")
