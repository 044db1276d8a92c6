"""Prints a life for reading: python -m mam.lives --seed 3 --split test"""

from __future__ import annotations

import argparse

from ..errors import MamError
from . import Life, coverage, life
from .kinds import SPLITS, problems


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mam.lives", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--facts", type=int, default=24)
    parser.add_argument("--talk", type=float, default=1.0)
    parser.add_argument("--coverage", action="store_true", help="counts by split and what is wrong in the files")
    options = parser.parse_args()
    try:
        if options.coverage:
            _print_coverage()
        else:
            sizes = {"sessions": options.sessions, "facts": options.facts, "talk": options.talk}
            _print(life(options.seed, options.split, **sizes))
    except MamError as error:
        print(error)
        return 1
    return 0


def _print(one: Life) -> None:
    for session in one.sessions:
        print(f"\n== {session.started:%A %d %B %Y, %H:%M}")
        for utterance in session.utterances:
            print(f"  {'>' if utterance.speaker == 'user' else ' '} {utterance.text}")
            labels = ", ".join(s.kind if s.fact is None else f"{s.kind} {s.fact}" for s in utterance.sentences)
            print(f"{'':60}[{labels}]")
    print("\n== Facts")
    for number, fact in enumerate(one.facts):
        change = "" if fact.replaces is None else f"  (instead of {fact.replaces})"
        print(f"  {number:2} {fact.kind}/{fact.subject}: {fact.text}  = {fact.value}{change}")
    print("\n== Questions")
    for question in one.questions:
        stale = f"  not: {', '.join(question.stale)}" if question.stale else ""
        print(f"  {question.type:8} {question.text}\n{'':11}{question.answer}  {list(question.evidence)}{stale}")


def _print_coverage() -> None:
    for split, counts in coverage().items():
        print(f"{split:6}", "  ".join(f"{count} {what}" for what, count in counts.items()))
    for problem in problems():
        print(problem)


if __name__ == "__main__":
    raise SystemExit(main())
