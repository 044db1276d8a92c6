"""Takes texts out of every row that holds them: the part of a purge that happens inside one transaction.

Slots, versions, keys, places, turns, traces, titles. Knows rows; what is left in the files afterwards is for `residue`
to find and for `store` to overwrite.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from mam import rows
from mam.database import Database, Transaction
from mam.dates import resolve
from mam.errors import InputError
from mam.schema import keys, layouts, places, removed, sessions, slots, turns, versions
from mam.values import Slot, Turn

PURGED = "[purged]"  # what stands in turns and traces where a purged text was
SHORT = 2  # words; an answer as short as this is only erased where it was said: elsewhere it is somebody else's
CUT = 4  # characters of a text's end that are still taken for it where a trace was cut off
CONTEXT = 400  # characters of context that a trace keeps (see `candidates`)
SHORTENED = "(only the last "  # stands in what the base was given when the message was too long (see `prompt`)
MANY = 20  # texts; for more, all rows are looked at instead of asking the database for each text
BOUND = 500  # values in one statement


@dataclass
class Erased:
    """What was taken out; `texts` and `vectors` are to be searched for afterwards and then forgotten."""

    slots: list[str] = field(default_factory=list)
    versions: int = 0
    keys: int = 0
    places: int = 0
    turns: int = 0
    sessions: list[str] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)
    living: set[str] = field(default_factory=set)  # those that are part of longer words elsewhere: "Rex" in "Rexona"
    vectors: list[bytes] = field(default_factory=list)
    edited: bool = False  # then there were other keys, of texts that these slots had before


def erase_slots(tx: Transaction, database: Database, ids: Collection[str]) -> Erased:
    """Erase slots with every text they had. Raises InputError for an unknown id, before anything is erased.

    Another slot that carried a text as context loses that part, and goes as well if it held nothing else.
    """
    erased, homes, fresh = Erased(), {}, list(dict.fromkeys(ids))
    while fresh:
        texts = _collect(tx, fresh, erased, homes)
        fresh = _cut_from_slots(tx, database, texts, erased)
    _erase_turns(tx, database, erased, homes)
    _erase_column(tx, database, sessions.c.title, erased, PURGED)
    _drop(tx, erased)
    _erase_column(tx, database, versions.c.text, erased, "")
    return erased


def _vectors(tx: Transaction, id: str) -> list[bytes]:
    """Keys of a slot, and its coordinates on maps."""
    found = [*tx.execute(sa.select(keys.c.key).where(keys.c.slot == id))]
    found += tx.execute(sa.select(places.c.coordinates, places.c.before).where(places.c.slot == id))
    return [bytes(value) for row in found for value in row if value is not None]


def erase_session(tx: Transaction, database: Database, id: str) -> Erased:
    """Erase a session: its turns with their traces, and every slot that was told in it."""
    if not tx.scalar(sa.select(sa.func.count()).select_from(sessions).where(sessions.c.id == id)):
        raise InputError(f"There is no session {id!r}.")
    told = list(tx.scalars(sa.select(slots.c.id).where(slots.c.session == id).order_by(slots.c.seq)))
    gone = tx.execute(turns.delete().where(turns.c.session == id)).rowcount
    erased = erase_slots(tx, database, told)
    tx.execute(sessions.delete().where(sessions.c.id == id))
    tx.next_version()
    erased.turns += gone
    erased.sessions.append(id)
    return erased


def erase_everything(tx: Transaction) -> Erased:
    """Erase all there is of this user."""
    erased = Erased(slots=list(tx.scalars(sa.select(slots.c.id).order_by(slots.c.seq))))
    erased.sessions = list(tx.scalars(sa.select(sessions.c.id).order_by(sessions.c.seq)))
    erased.texts = {*tx.scalars(sa.select(slots.c.text)), *tx.scalars(sa.select(versions.c.text))}
    erased.texts |= {*tx.scalars(sa.select(slots.c.said)), *tx.scalars(sa.select(turns.c.text))}
    erased.texts |= {*tx.scalars(sa.select(turns.c.reply))}
    erased.turns = tx.execute(turns.delete()).rowcount
    tx.execute(sessions.delete())
    tx.execute(layouts.delete())
    _drop(tx, erased)
    return erased


def without_purged(turn: Turn, seen: Iterable[Slot], purged: Collection[str]) -> Turn:
    """A turn that was under way while slots were purged, before it is saved: nothing of them may come back with it.

    seen: the slots it read and wrote, with the texts they had. What the base was given and what was said before are
    left out altogether, because they may quote a purged slot that this turn did not read.
    """
    texts = {text for slot in seen if slot.id in purged for text in (slot.text, slot.said)}
    clean = eraser(texts | {" ".join(text.split()) for text in texts})
    trace = json.loads(erase_json(rows.trace_text(turn), clean))
    trace["given"] = PURGED
    for candidate in trace["rejected"]:
        candidate["context"] = PURGED if candidate["context"] else ""
    return rows.turn_from(turn.id, turn.session, clean(turn.text), clean(turn.reply), turn.at, trace)


def _collect(tx: Transaction, ids: list[str], erased: Erased, homes: dict[str, set[str]]) -> set[str]:
    """Note what these slots hold; returns the texts that are to be erased everywhere."""
    fresh: set[str] = set()
    for id in ids:
        slot = tx.execute(sa.select(slots).where(slots.c.id == id)).first()
        if slot is None:
            raise InputError(f"There is no memory {id!r}.")
        been = {slot.text, *tx.scalars(sa.select(versions.c.text).where(versions.c.slot == id))}
        erased.edited |= len(been) > 1
        fresh |= been
        if len(slot.said.split()) > SHORT:
            fresh.add(slot.said)
        fresh |= {" ".join(text.split()) for text in fresh}  # as the trace shows what the base was given
        if slot.turn:
            homes.setdefault(slot.turn, set()).add(slot.said)
        erased.vectors += _vectors(tx, id)
    erased.slots += ids
    erased.texts |= fresh
    return fresh


def _drop(tx: Transaction, erased: Erased) -> None:
    """Delete the rows of the slots; versions, keys and places go with them."""
    changed = tx.next_version()
    for start in range(0, len(erased.slots), BOUND):
        gone = erased.slots[start : start + BOUND]
        for table in (versions, keys, places):
            count = tx.scalar(sa.select(sa.func.count()).select_from(table).where(table.c.slot.in_(gone)))
            setattr(erased, table.name, getattr(erased, table.name) + count)
        tx.execute(slots.delete().where(slots.c.id.in_(gone)))
        for table in (slots, versions):
            tx.execute(table.update().where(table.c.superseded_by.in_(gone)).values(superseded_by=None))
        tx.execute(removed.delete().where(removed.c.slot.in_(gone)))  # purged before, and imported again since
        tx.execute(removed.insert(), [{"slot": id, "changed": changed} for id in gone])


def _cut_from_slots(tx: Transaction, database: Database, texts: set[str], erased: Erased) -> list[str]:
    """Cut texts out of all other slots; returns the ids of those that held nothing else."""
    cut, emptied, gone = eraser(texts, ""), [], set(erased.slots)
    for row in _holding(tx, database, slots, (slots.c.text, slots.c.said), texts):
        if row.id in gone:
            continue
        text, said = cut(row.text).strip(), cut(row.said).strip() or PURGED
        _note_living(erased, text, said)
        if not re.search(r"\w", text):
            emptied.append(row.id)
        elif (text, said) != (row.text, row.said):
            erased.vectors += _vectors(tx, row.id)
            for derived in (keys, places):
                tx.execute(derived.delete().where(derived.c.slot == row.id))
            # a new version: whoever still sees the old text and saves it again gets a conflict
            values = {"text": text, "version": row.version + 1, "when": _day(text, row.when, row.told)}
            tx.execute(
                slots.update().where(slots.c.seq == row.seq).values(said=said, changed=tx.next_version(), **values)
            )
            last = sa.select(sa.func.max(versions.c.seq)).where(versions.c.slot == row.id).scalar_subquery()
            tx.execute(versions.update().where(versions.c.seq == last).values(values))
    return emptied


def _erase_turns(tx: Transaction, database: Database, erased: Erased, homes: dict[str, set[str]]) -> None:
    """Erase from all turns, and a little more from those in which the slots were told."""
    erase = eraser(erased.texts)
    trimmed = _trimmer(erased.texts)
    found = {row.seq: row for row in _holding(tx, database, turns, (turns.c.text, turns.c.reply), erased.texts)}
    found |= {row.seq: row for row in _holding(tx, database, turns, (turns.c.trace,), set(map(_in_json, erased.texts)))}
    at = list(homes)
    for start in range(0, len(at), BOUND):  # the turns after it may hold the end of a long text as context
        where = sa.select(turns.c.session).where(turns.c.id.in_(at[start : start + BOUND]))
        found |= {row.seq: row for row in tx.execute(sa.select(turns).where(turns.c.session.in_(where)))}
    for row in found.values():
        clean = eraser(erased.texts | homes[row.id]) if row.id in homes else erase
        after = {"text": clean(row.text), "reply": clean(row.reply)}
        _note_living(erased, *after.values())
        after["trace"] = erase_json(row.trace, lambda text, clean=clean: trimmed(clean(text)))
        _note_living(erased, after["trace"], written=_in_json)
        if after["trace"] == erase_json(row.trace, str):  # only written in another way
            after["trace"] = row.trace
        if any(after[name] != getattr(row, name) for name in after):
            tx.execute(turns.update().where(turns.c.seq == row.seq).values(after))
            erased.turns += 1


def _erase_column(tx: Transaction, database: Database, column: sa.Column, erased: Erased, mark: str) -> None:
    erase, table = eraser(erased.texts, mark), column.table
    for row in _holding(tx, database, table, (column,), erased.texts):
        text = getattr(row, column.name)
        clean = erase(text).strip() or PURGED
        _note_living(erased, clean)
        if clean != text:
            values = {column.name: clean}
            if table is versions:  # where a slot was on the maps says something of the text that it had there
                values["when"], erased.edited = _day(clean, row.when, row.at), True
                erased.vectors += _vectors(tx, row.slot)
                tx.execute(places.delete().where(places.c.slot == row.slot))
            tx.execute(table.update().where(table.c.seq == row.seq).values(values))


def _note_living(erased: Erased, *values: str, written: Callable[[str], str] = str) -> None:
    erased.living |= {text for text in erased.texts if any(written(text) in value for value in values)}


def _holding(
    tx: Transaction, database: Database, table: sa.Table, columns: tuple[sa.Column, ...], texts: set[str]
) -> Iterator[sa.Row]:
    """Rows that hold one of the texts in one of the columns."""
    texts = {text for text in texts if text}
    if not texts:
        return
    query = sa.select(table)
    if len(texts) <= MANY:
        query = query.where(sa.or_(*(database.contains(column, text) for column in columns for text in texts)))
    for row in tx.execute(query).all():
        values = [getattr(row, column.name) or "" for column in columns]
        if any(text in value for value in values for text in texts):
            yield row


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def eraser(texts: Iterable[str], mark: str = PURGED) -> Callable[[str], str]:
    """A function that puts `mark` in place of whole occurrences of the texts, the longest first."""
    known = sorted((text for text in texts if text), key=len, reverse=True)

    def erase(value: str) -> str:
        for text in known:
            if text in value:
                value = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", lambda _: mark, value)
        return value

    return erase


def erase_json(text: str, erase: Callable[[str], str]) -> str:
    """The same JSON with every text in it erased; what is damaged is erased as a whole and is no JSON afterwards.

    With the text of a memory goes the day that it speaks of, and, if nothing is left of it, its tags.
    """

    def walk(item):
        if isinstance(item, str):
            return erase(item)
        if isinstance(item, list):
            return [walk(each) for each in item]
        if isinstance(item, dict):
            after = {name: walk(each) for name, each in item.items()}
            if after.get("text") != item.get("text"):
                gone = {"when": None} | ({"tags": []} if after["text"] == PURGED else {})
                after |= {name: nothing for name, nothing in gone.items() if name in after}
            return after
        return item

    try:
        return json.dumps(walk(json.loads(text)), ensure_ascii=False)
    except ValueError:
        return erase(text)


def _day(text: str, when: str | None, told: str) -> str | None:
    """The day that a text speaks of after something was cut out of it."""
    return when and resolve(text, datetime.fromisoformat(told).astimezone())[1]


def _trimmer(texts: Iterable[str]) -> Callable[[str], str]:
    """A function for texts of a trace that were cut off at their start: takes away the end of a purged one there.

    Context is kept in its last characters only, and a message that is too long for the base is given from the middle.
    """
    known = [text for text in texts if len(text) > CUT]

    def trim(value: str) -> str:
        starts = [0] if len(value) >= CONTEXT else []
        if SHORTENED in value:
            starts += [match.end() for match in re.finditer(r"\n", value)]
        for start in reversed(starts):
            for text in known:
                for length in range(min(len(text) - 1, len(value) - start), CUT, -1):
                    if value.startswith(text[-length:], start):
                        value = value[:start] + PURGED + value[start + length :]
                        break
        return value

    return trim
