"""`python -m mam pack build|list|show|ask|edit|delete|merge|…`, a thin shell around the API."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from mam import base as bases
from mam.errors import MamError, WeightsError
from mam.packs.files import write
from mam.packs.pack import Pack
from mam.packs.values import KINDS, READY, Answer, Certificate
from mam.packs.weights import METHODS

MINUTE = 60
EPILOG = """\
python -m mam pack generator --data DIR             train, once, what writes the questions
python -m mam pack build story.txt --name story     text into weights; interrupted, the same command goes on
python -m mam pack ask story "Who built the mill?"  closed book: the text is in no prompt
python -m mam pack edit story story.txt 12 "The mill burnt down in 1820."
python -m mam pack delete story story.txt           out of text and weights; until its shard is trained anew, which
                                                    happens at once or with the next build, that answers nothing

A pack answers in the same time however long its text is, and may be wrong without a sign of it. For what changes, has
to be exact or is to be shown with its source, use the memory itself: python -m mam ingest story.txt."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from mam.cli import add_shared  # there: what says whose memory; this module is imported from it

    parser.epilog, parser.formatter_class = EPILOG, argparse.RawDescriptionHelpFormatter
    shared = argparse.ArgumentParser(add_help=False)
    add_shared(shared)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable, about: str, pack: bool = True) -> Callable:
        added = commands.add_parser(name, help=about, description=about, parents=[shared])
        if pack:
            added.add_argument("name", metavar="NAME", help="of the pack")
        added.set_defaults(run_pack=run)
        return added.add_argument

    add = command("build", _build, "make a pack of documents, or go on with one that was interrupted", pack=False)
    add("paths", nargs="*", metavar="PATH", help=".txt, .md, .pdf or folders; none: the active memories, or go on")
    add("--name", required=True, metavar="NAME", help="of the pack")
    add("--lm", default=bases.DEFAULT, metavar="ID", help="whose weights the memory LM has (%(default)s)")
    add("--generator", default="trained", metavar="ID", help="trained, or a base or endpoint that writes the questions")
    add("--shard", type=int, default=4, metavar="N", help="documents that learn and are deleted together (%(default)s)")
    add("--epochs", type=int, default=12, metavar="N", help="of training, at most (%(default)s)")
    add("--seed", type=int, default=0, metavar="S", help="of training (%(default)s)")
    command("list", _list, "list the packs", pack=False)
    add = command("show", _show, "documents, shards and reflections of a pack, and what was taken out of it")
    add("--find", default="", metavar="TEXT", help="only reflections with these words")
    add("--kind", choices=KINDS, help="only reflections of this kind")
    add("--limit", type=int, default=10, metavar="N", help="reflections that are shown (%(default)s)")
    add = command("ask", _ask, "ask a pack, closed book")
    add("question", metavar="QUESTION", help="in the words that it was asked in, if you know them")
    add("--stages", action="store_true", help="by the protocol of stages instead of in a single step")
    add("--budget", type=int, default=12, metavar="N", help="calls of that at most (%(default)s)")
    add("--merged", action="store_true", help="by the merged adapter (see merge) instead of that of a shard")
    add("--calls", action="store_true", help="show everything that was asked on the way")
    add = command("delete", _delete, "take a document, or sentences of it, out of a pack and its weights")
    add("document", metavar="DOCUMENT", help="its name, as show has it")
    add("sentences", nargs="*", type=int, metavar="NUMBER", help="only these sentences (see show)")
    add("--json", metavar="FILE", help="write the certificate there")
    add = command("edit", _edit, "put other words in the place of a sentence, in a pack and in its weights")
    add("document", metavar="DOCUMENT", help="its name, as show has it")
    add("sentence", type=int, metavar="NUMBER", help="of the sentence (see show)")
    add("words", metavar="WORDS", help="what it is to say")
    add("--json", metavar="FILE", help="write the certificate there")
    add = command("merge", _merge, "merge the shards into one adapter, which a deletion discards; they stay")
    add("--method", choices=METHODS, default="linear", help="(%(default)s)")
    command("export", _export, "write a pack to a file")("file", metavar="FILE", help="for import")
    add = command("import", _import, "add a pack from a file", pack=False)
    add("file", metavar="FILE", help="that export wrote")
    add("--name", metavar="NAME", help="another name than it had")
    add("--lm", default=bases.DEFAULT, metavar="ID", help="whose weights it must be made for (%(default)s)")
    add = command("mount", _mount, "ask a pack with every message of a conversation")
    add("--session", required=True, help="by title or id")
    add("--off", action="store_true", help="no more")
    add("--stages", action="store_true", help="the base finds what to ask it, for one larger than the default")
    command("remove", _remove, "delete a pack with all its files")
    trained = commands.add_parser("generator", help="train the generator that writes the questions")
    trained.add_argument("--data", required=True, metavar="DIR", help="folder with the public data sets (see README)")
    trained.add_argument("--base", default=bases.DEFAULT, metavar="ID", help="whose adapter it is (%(default)s)")
    trained.add_argument("--out", metavar="DIR", help="where it goes (default: where it is looked for)")
    trained.add_argument("--run", metavar="DIR", default="runs/generator", help="checkpoints; the same folder resumes")
    trained.add_argument("--steps", type=int, metavar="N", help="of training, instead of as many as it is made for")
    trained.set_defaults(run_pack=_generator)


def run(options: argparse.Namespace) -> int:
    return options.run_pack(options) or 0


def _space(options: argparse.Namespace):
    from mam.cli import open_space

    return open_space(options)


def _build(options: argparse.Namespace) -> None:
    m = _space(options)
    pack = m.pack(options.name, *options.paths, base=options.lm, generator=options.generator, seed=options.seed,
                  shard=options.shard, epochs=options.epochs, build=False)  # fmt: skip
    words, left = sum(document.words for document in pack.documents()), pack.estimate()
    print(
        f"{len(pack.documents())} documents, {words:,} words; about {left / MINUTE:.0f} minutes on two cores.",
        flush=True,
    )
    print("Whenever it is interrupted, the same command goes on.", flush=True)
    pack.build(progress=m.progress)
    _print_shards(pack)


def _list(options: argparse.Namespace) -> None:
    packs = _space(options).packs()
    for pack in packs:
        try:
            state = "" if pack.ready else "  not ready; build it"
            print(f"{pack.name}  {len(pack.documents())} documents, {len(pack.shards())} shards{state}")
        except WeightsError as error:  # no reason not to see the others
            print(f"{pack.name}  damaged: {error}")
    if not packs:
        print("There are no packs yet.")


def _show(options: argparse.Namespace) -> None:
    pack = _space(options).open_pack(options.name)
    _print_shards(pack)
    found = pack.reflections(options.find, options.kind)
    for r in found[: options.limit]:
        places = ", ".join(f"{source.document} {source.number}" for source in r.sources)
        print(f"{r.kind}: {r.question} {r.answer}  [{places}]{'' if r.kept else f'  not kept: {r.why}'}")
    print(f"{len(found)} reflections, {sum(r.kept for r in found)} of them learned.")
    for done in pack.certificates():
        print(f"Taken out on {done.at.astimezone():%Y-%m-%d at %H:%M}: {', '.join(done.documents)}. {done.says}")


def _ask(options: argparse.Namespace) -> None:
    pack = _space(options).open_pack(options.name)
    answer = pack.ask(options.question, in_stages=options.stages, budget=options.budget, merged=options.merged)
    if options.calls:
        _print_calls(answer)
    print(answer.text)


def _delete(options: argparse.Namespace) -> None:
    _change(options, lambda pack, progress: pack.delete(options.document, options.sentences, progress))


def _edit(options: argparse.Namespace) -> None:
    _change(options, lambda pack, progress: pack.edit(options.document, options.sentence, options.words, progress))


def _change(options: argparse.Namespace, do: Callable[[Pack, Callable], Certificate]) -> None:
    m = _space(options)
    pack = m.open_pack(options.name)
    before = pack.certificates()

    def certify(done: Certificate) -> None:
        if options.json:
            write(Path(options.json), json.dumps(asdict(done), indent=2, default=str) + "\n")
        _print_certificate(done)

    try:
        done = do(pack, m.progress)
    except (MamError, KeyboardInterrupt):
        if (now := pack.certificates()) != before:  # the text is gone all the same
            certify(now[-1])
        raise
    certify(done)


def _merge(options: argparse.Namespace) -> None:
    print(_space(options).open_pack(options.name).merge(options.method))


def _export(options: argparse.Namespace) -> None:
    _space(options).open_pack(options.name).export(options.file)
    print(f"The pack {options.name} is written to {options.file}.")


def _import(options: argparse.Namespace) -> None:
    print(f"The pack {_space(options).import_pack(options.file, options.name, options.lm).name} is here.")


def _mount(options: argparse.Namespace) -> None:
    chat = _space(options).session(options.session)
    if options.off:
        chat.unmount(options.name)
    else:
        chat.mount(options.name, options.stages)
    print(f"{chat.title}: {', '.join(chat.mounted) or 'no packs'}")


def _remove(options: argparse.Namespace) -> None:
    _space(options).open_pack(options.name).remove()
    print(f"The pack {options.name} is gone.")


def _generator(options: argparse.Namespace) -> None:
    from mam.packs.generators import SHIPPED
    from mam.train.generator import STEPS, train_generator

    out = Path(options.out) if options.out else SHIPPED
    steps = STEPS if options.steps is None else options.steps
    train_generator(Path(options.data), options.base, out, Path(options.run), steps)


def _print_shards(pack: Pack) -> None:
    for shard in pack.shards():
        figures = ", ".join(f"{name} {value:.2f}" for name, value in shard.figures.items())
        about = f"{shard.reflections} reflections; {figures}" if shard.state == READY else "build the pack"
        print(f"shard {shard.id}  {shard.state}  {', '.join(shard.documents)}  ({about})")


def _print_calls(answer: Answer) -> None:
    for call in answer.calls:
        sure = f" ({call.confidence:.2f}, shard {call.shard})" if call.confidence is not None else ""
        print(
            f"[{call.stage}, {call.to}] {call.asked}\n    {call.reply}{sure}{f'  {call.pruned}' if call.pruned else ''}"
        )


def _print_certificate(done: Certificate) -> None:
    print(
        f"Taken out: {', '.join(done.documents)}, with {done.reflections} reflections and"
        f" {len(done.discarded)} adapters that had learned from them."
        f" Searched without a trace: {len(done.searched)} files. {done.says}"
    )
    for one in done.surviving:
        print(f"shard {one.shard}: training set {one.training[:16]}, adapter {one.adapter[:16]}")
    if failed := [check.slot for check in done.checks if not check.passed]:
        print(f"The memory LM still answers {', '.join(failed)}: what the pack is made of now holds the same.")
