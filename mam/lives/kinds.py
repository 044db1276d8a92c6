"""Kinds of fact, banks of values and phrases of small talk: loading, checking and splitting.

Everything that a life is made of comes from the YAML files beside this module. It is dealt out to "train", "val" and
"test" by hash, so that adding an entry never moves another one:

- kinds go by family (a family holds near-synonyms: the user's job, a relative's job), about 70 / 10 / 20;
- values go by string, wherever they occur, about 75 % to "train", the others shared by "val" and "test";
- phrases (lead-ins, asking frames, small talk, prompts) go by string, about 70 / 12 / 18.

This module knows nothing of lives; `generator` builds them from `kinds(split)`, `bank(split, name)` and
`phrases(split)`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import yaml

from ..errors import InputError

SPLITS = ("train", "val", "test")
FOLDER = Path(__file__).parent
FUTURE, PAST = "future", "past"
FEWEST_VALUES = 2  # a kind left with fewer in a split is not used there: an update needs an old and a new one

_FAMILY_SHARES = (0.70, 0.80)  # upper ends of train and val on [0, 1)
_PHRASE_SHARES = (0.70, 0.82)
_TRAIN_VALUES = 0.75


@dataclass(frozen=True)
class Kind:
    """One kind of fact; see the entries in `kinds/*.yaml` for what each field looks like."""

    name: str
    family: str
    tell: tuple[str, ...]  # {v}, and {who} or {when} where the kind has them
    ask: tuple[str, ...]
    answer: str
    values: tuple[str, ...] = ()  # empty for a kind with `when`: there the value is the date
    bank: str = ""  # name of the shared bank the values came from
    who: tuple[str, ...] = ()  # relations to the user; empty: about the user
    many: bool = False  # several values may hold at once
    when: str = ""  # FUTURE or PAST
    update: tuple[str, ...] = ()  # ways to tell a change; {old} is optional


def kinds(split: str) -> tuple[Kind, ...]:
    """The kinds of `split`, each with only the values that belong there. Raises InputError for an unknown split."""
    _known(split)
    return _dealt_kinds()[split]


def bank(split: str, name: str) -> tuple[str, ...]:
    """Values of a shared bank that belong to `split`."""
    return _dealt_values(_known(split), name)


def phrases(split: str, section: str) -> tuple[str, ...]:
    """Phrases of one section of talk.yaml that belong to `split`, in the order of the file."""
    return _dealt_phrases()[_known(split)][section]


@cache
def relations() -> tuple[str, ...]:
    """Everybody a fact can be about ("sister", "best friend"), in all splits: who it is about is no value."""
    return tuple(sorted({*_banks()["people"], *(relation for kind in all_kinds() for relation in kind.who)}))


def split_of_family(family: str) -> str:
    return _share("family", family, _FAMILY_SHARES)


def split_of_phrase(phrase: str) -> str:
    return _share("phrase", phrase.casefold(), _PHRASE_SHARES)


def held_out(value: str) -> bool:
    """Whether a value is kept from "train". "A nurse" and "nurse" share their fate."""
    bare = re.sub(r"^(an?|the) ", "", value.casefold())
    return _fraction("value", bare) >= _TRAIN_VALUES


def coverage() -> dict[str, dict[str, int]]:
    """Counts by split: families, kinds, tells, asks, values (distinct strings) and phrases.

    Raises InputError if anything that must be held out occurs in two splits (values: in "train" and elsewhere).
    """
    counts, families, values, spoken = {}, {}, {}, {}
    for split in SPLITS:
        own = kinds(split)
        families[split] = {kind.family for kind in own}
        values[split] = {value.casefold() for kind in own for value in kind.values}
        spoken[split] = {phrase.casefold() for section in _sections() for phrase in phrases(split, section)}
        counts[split] = {
            "families": len(families[split]), "kinds": len(own),
            "tells": sum(len(kind.tell) + len(kind.update) for kind in own), "asks": sum(len(kind.ask) for kind in own),
            "values": len(values[split]), "phrases": len(spoken[split]),
        }  # fmt: skip
    for what, held in (("families", families), ("phrases", spoken)):
        shared = (held["train"] & held["val"]) | (held["train"] & held["test"]) | (held["val"] & held["test"])
        _refuse(what, shared)
    _refuse("values", values["train"] & (values["val"] | values["test"]))
    return counts


def problems() -> list[str]:
    """What is wrong with the entries of `kinds/*.yaml`, one line each; empty when all is well."""
    found, names = [], set()
    for file, entry in _entries():
        where = f"{file.name}: {entry.get('name')}"
        if entry.get("name") in names:
            found.append(f"{where}: the name is taken")
        names.add(entry.get("name"))
        try:
            found.extend(f"{where}: {problem}" for problem in _problems(_kind(file, entry)))
        except InputError as error:
            found.append(str(error))
    return found


def all_kinds() -> tuple[Kind, ...]:
    """Every kind with all its values, whatever its split. Of two kinds with one name the last is kept."""
    return tuple({kind.name: kind for kind in (_kind(file, entry) for file, entry in _entries())}.values())


def _problems(kind: Kind) -> list[str]:
    found = []
    told = (*kind.tell, *kind.update)
    if len(kind.tell) < 3 or len(set(kind.tell)) < len(kind.tell):
        found.append("fewer than three different ways to tell it")
    if len(kind.ask) < 3 or len(set(kind.ask)) < len(kind.ask):
        found.append("fewer than three different ways to ask for it")
    if not kind.when and (len(kind.values) < 10 or len({v.casefold() for v in kind.values}) < len(kind.values)):
        found.append("fewer than ten distinct values")
    if kind.when and (kind.values or kind.when not in (FUTURE, PAST)):
        found.append("`when` must be future or past and excludes values")
    slot = "{when}" if kind.when else "{v}"
    found += [f"{slot} is missing in {text!r}" for text in told if slot not in text]
    found += [f"a value in the question {text!r}" for text in kind.ask if "{v}" in text or "{when}" in text]
    if kind.who:
        found += [
            f"'my {{who}}' is missing in {text!r}" for text in (*told, *kind.ask) if "my {who}" not in _lower(text)
        ]
        if "your {who}" not in kind.answer.lower():
            found.append(f"'your {{who}}' is missing in {kind.answer!r}")
    if "{v}" not in kind.answer:
        found.append(f"{{v}} is missing in {kind.answer!r}")
    allowed = {"{v}", "{old}", slot} | ({"{who}"} if kind.who else set())
    for text in (*told, *kind.ask, kind.answer):
        found += [f"{mark} in {text!r}" for mark in re.findall(r"\{.*?\}", text) if mark not in allowed]
    found += [f"{{old}} in {text!r}" for text in kind.tell if "{old}" in text]
    return found


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:].replace(" My ", " my ")


@cache
def _dealt_kinds() -> dict[str, tuple[Kind, ...]]:
    dealt: dict[str, list[Kind]] = {split: [] for split in SPLITS}
    for kind in all_kinds():
        split = split_of_family(kind.family)
        values = _belonging(kind.values, split)
        if kind.when or len(values) >= FEWEST_VALUES:
            dealt[split].append(replace(kind, values=values))
    return {split: tuple(own) for split, own in dealt.items()}


@cache
def _dealt_values(split: str, name: str) -> tuple[str, ...]:
    return _belonging(_banks()[name], split)


@cache
def _dealt_phrases() -> dict[str, dict[str, tuple[str, ...]]]:
    return {
        split: {name: tuple(p for p in section if split_of_phrase(p) == split) for name, section in _sections().items()}
        for split in SPLITS
    }


def _belonging(values: tuple[str, ...], split: str) -> tuple[str, ...]:
    return tuple(value for value in values if held_out(value) != (split == "train"))


@cache
def _banks() -> dict[str, tuple[str, ...]]:
    return {name: tuple(values) for name, values in _read(FOLDER / "banks.yaml").items()}


@cache
def _sections() -> dict[str, tuple[str, ...]]:
    return {name: tuple(section) for name, section in _read(FOLDER / "talk.yaml").items()}


@cache
def _entries() -> tuple[tuple[Path, dict], ...]:
    return tuple((file, entry) for file in sorted(FOLDER.glob("kinds/*.yaml")) for entry in _read(file) or ())


def _kind(file: Path, entry: dict) -> Kind:
    try:
        values, who = entry.get("values", ()), entry.get("who", ())
        return Kind(
            name=entry["name"], family=entry["family"], answer=entry["answer"],
            tell=tuple(entry["tell"]), ask=tuple(entry["ask"]), update=tuple(entry.get("update", ())),
            values=_banks()[values] if isinstance(values, str) else tuple(str(value) for value in values),
            bank=values if isinstance(values, str) else "",
            who=_banks()[who] if isinstance(who, str) else tuple(who),
            many=entry.get("many", False), when=entry.get("when", ""),
        )  # fmt: skip
    except KeyError as error:
        raise InputError(
            f"{file.name}: {entry.get('name', 'an entry')} lacks {error} or names an unknown bank."
        ) from None


def _read(file: Path) -> dict | list:
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise InputError(f"{file.name} is not valid YAML: {' '.join(str(error).split())}") from None


def _share(namespace: str, text: str, ends: tuple[float, float]) -> str:
    position = _fraction(namespace, text)
    return SPLITS[sum(position >= end for end in ends)]


def _fraction(namespace: str, text: str) -> float:
    """A number in [0, 1) that depends on the text alone; Python's own `hash` differs between processes."""
    digest = hashlib.blake2b(f"{namespace}\0{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _known(split: str) -> str:
    if split not in SPLITS:
        raise InputError(f"There is no split {split!r}; choose one of {', '.join(SPLITS)}.")
    return split


def _refuse(what: str, shared: set[str]) -> None:
    if shared:
        raise InputError(f"These {what} occur in two splits: {', '.join(sorted(shared)[:5])}.")
