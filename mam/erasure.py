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
from mam.errors import MissingError
from mam.schema import keys, layouts, places, removed, sessions, slots, turns, versions
from mam.values import Slot, Turn

PURGED = "[purged]"  # what stands in turns and traces where a purged text was
SHORT = 2  # words; an answer as short as this is only erased where it was said: elsewhere it is somebody else's
CUT = 4  # characters of a text's end that are still taken for it where a trace was cut off
CONTEXT = 400  # characters of context that a trace keeps (see `candidates`)
SHORTENED = "(only the last "  # stands in what the base was given when the message was too long (see `prompt`)
END = 12  # characters by which one of many texts is told
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
    forgotten: set[sa.Table] = field(default_factory=set)  # hold, or held, vectors of these slots that are not known


def erase_slots(tx: Transaction, database: Database, ids: Collection[str]) -> Erased:
    """Erase slots with every text they had. Raises MissingError for an unknown id, before anything is erased.

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


def _note_vectors(tx: Transaction, erased: Erased, id: str, edited: bool) -> None:
    """Note the keys and the places of a slot; those it had before an edit or a new map, nobody knows any more."""
    erased.vectors += map(bytes, tx.scalars(sa.select(keys.c.key).where(keys.c.slot == id)))
    on_maps = tx.execute(sa.select(places.c.coordinates, places.c.before).where(places.c.slot == id)).all()
    erased.vectors += [bytes(value) for row in on_maps for value in row if value is not None]
    erased.forgotten |= ({keys} if edited else set()) | ({places} if on_maps else set())


def erase_session(tx: Transaction, database: Database, id: str) -> Erased:
    """Erase a session: its turns with their traces, and every slot that was told in it."""
    if not tx.scalar(sa.select(sa.func.count()).select_from(sessions).where(sessions.c.id == id)):
        raise MissingError(f"There is no session {id!r}.")
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
    trace["given"], trace["sent"] = PURGED, []
    for candidate in trace["rejected"]:
        candidate["context"] = PURGED if candidate["context"] else ""
    return rows.turn_from(turn.id, turn.session, clean(turn.text), clean(turn.reply), turn.at, trace)


def _collect(tx: Transaction, ids: list[str], erased: Erased, homes: dict[str, set[str]]) -> set[str]:
    """Note what these slots hold; returns the texts that are to be erased everywhere."""
    fresh: set[str] = set()
    for id in ids:
        slot = tx.execute(sa.select(slots).where(slots.c.id == id)).first()
        if slot is None:
            raise MissingError(f"There is no memory {id!r}.")
        been = {slot.text, *tx.scalars(sa.select(versions.c.text).where(versions.c.slot == id))}
        fresh |= been
        if len(slot.said.split()) > SHORT:
            fresh.add(slot.said)
        fresh |= {" ".join(text.split()) for text in fresh}  # as the trace shows what the base was given
        if slot.turn:
            homes.setdefault(slot.turn, set()).add(slot.said)
        _note_vectors(tx, erased, id, len(been) > 1)
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
    cut, note, emptied, gone = eraser(texts, ""), _living(erased), [], set(erased.slots)
    for row in _holding(tx, database, slots, (slots.c.text, slots.c.said), texts):
        if row.id in gone:
            continue
        text, said = cut(row.text).strip(), cut(row.said).strip() or PURGED
        note(text, said)
        if not re.search(r"\w", text):
            emptied.append(row.id)
        elif (text, said) != (row.text, row.said):
            _note_vectors(tx, erased, row.id, False)
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
    find, trimmed = finder(erased.texts), _trimmer(erased.texts)
    note, note_json = _living(erased), _living(erased, _in_json)
    found = {row.seq: row for row in _holding(tx, database, turns, (turns.c.text, turns.c.reply), erased.texts)}
    found |= {row.seq: row for row in _holding(tx, database, turns, (turns.c.trace,), set(map(_in_json, erased.texts)))}
    at = list(homes)
    for start in range(0, len(at), BOUND):  # the turns after it may hold the end of a long text as context
        where = sa.select(turns.c.session).where(turns.c.id.in_(at[start : start + BOUND]))
        found |= {row.seq: row for row in tx.execute(sa.select(turns).where(turns.c.session.in_(where)))}
    for row in found.values():
        clean = _erasing(_also(find, homes.get(row.id, set())), PURGED)
        after = {"text": clean(row.text), "reply": clean(row.reply)}
        note(*after.values())
        after["trace"] = erase_json(row.trace, lambda text, clean=clean: trimmed(clean(text)))
        note_json(after["trace"])
        if after["trace"] == erase_json(row.trace, str):  # only written in another way
            after["trace"] = row.trace
        if any(after[name] != getattr(row, name) for name in after):
            tx.execute(turns.update().where(turns.c.seq == row.seq).values(after))
            erased.turns += 1


def _erase_column(tx: Transaction, database: Database, column: sa.Column, erased: Erased, mark: str) -> None:
    erase, note, table = eraser(erased.texts, mark), _living(erased), column.table
    for row in _holding(tx, database, table, (column,), erased.texts):
        text = getattr(row, column.name)
        clean = erase(text).strip() or PURGED
        note(clean)
        if clean != text:
            values = {column.name: clean}
            if table is versions:  # where a slot was on the maps says something of the text that it had there
                values["when"] = _day(clean, row.when, row.at)
                _note_vectors(tx, erased, row.slot, True)
                tx.execute(places.delete().where(places.c.slot == row.slot))
            tx.execute(table.update().where(table.c.seq == row.seq).values(values))


def _living(erased: Erased, written: Callable[[str], str] = str) -> Callable[..., None]:
    """A function that notes which of the texts still stand in values: those that are part of longer words there."""
    by_form = {written(text): text for text in erased.texts}
    find = finder(by_form)

    def note(*values: str) -> None:
        erased.living |= {by_form[form] for value in values for form in find(value)}

    return note


def _holding(
    tx: Transaction, database: Database, table: sa.Table, columns: tuple[sa.Column, ...], texts: set[str]
) -> Iterator[sa.Row]:
    """Rows that hold one of the texts in one of the columns."""
    texts = {text for text in texts if text}
    if not texts:
        return
    query, find = sa.select(table), finder(texts)
    if len(texts) <= MANY:
        query = query.where(sa.or_(*(database.contains(column, text) for column in columns for text in texts)))
    for row in tx.execute(query).all():
        if any(find(getattr(row, column.name) or "") for column in columns):
            yield row


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def finder(texts: Iterable[str]) -> Callable[[str], list[str]]:
    """A function that says which of the texts stand in a value, the longest first.

    Where they are many, only those whose last characters are there are looked for: a purge of a long conversation, or
    of everything, would otherwise compare every text with every row.
    """
    known = sorted({text for text in texts if text}, key=_longest_first)
    by_end: dict[str, list[str]] = {}
    for text in known:
        by_end.setdefault(text[-END:], []).append(text)
    short = [text for text in known if len(text) < END]

    def find(value: str) -> list[str]:
        near = known
        if len(known) > MANY:
            ends = by_end.keys() & {value[at : at + END] for at in range(len(value) - END + 1)}
            near = sorted((text for end in ends for text in by_end[end]), key=_longest_first) + short
        return [text for text in near if text in value]

    return find


def _longest_first(text: str) -> tuple[int, str]:
    return -len(text), text


def _also(find: Callable[[str], list[str]], more: set[str]) -> Callable[[str], list[str]]:
    """The same with a few more texts."""
    return lambda value: sorted({*find(value), *finder(more)(value)}, key=_longest_first) if more else find(value)


def eraser(texts: Iterable[str], mark: str = PURGED) -> Callable[[str], str]:
    """A function that puts `mark` in place of whole occurrences of the texts, the longest first."""
    return _erasing(finder(texts), mark)


def _erasing(find: Callable[[str], list[str]], mark: str) -> Callable[[str], str]:
    def erase(value: str) -> str:
        for text in find(value):
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
    from mam.dates import resolve  # takes a moment to import, and few purges ask for it

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
                if value[start : start + CUT + 1] not in text:
                    continue
                for length in range(min(len(text) - 1, len(value) - start), CUT, -1):
                    if value.startswith(text[-length:], start):
                        value = value[:start] + PURGED + value[start + length :]
                        break
        return value

    return trim
