"""Days as people name them ("next Friday", "two weeks ago", "on 3 March") with the date they mean.

A small dealer of phrases for the generator, not a parser: `mam.candidates` reads dates out of text. Weekdays follow
one plain rule, because people do not agree on a better one: "next Friday" is the first Friday strictly after today,
"last Friday" the last one strictly before it, "this Friday" the first one on or after it.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from random import Random

from .kinds import PAST

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_DAY = (
    r"(?:yesterday|today|last [A-Z]\w+day|on [A-Z]\w+ \d+|on \d+ [A-Z]\w+|on the \d+\w\w of [A-Z]\w+"
    r"|[\w-]+ (?:days|weeks) ago)"
)
_NEEDS_DAY = re.compile(r"\b(?:was|were|is|be|been|on|of|since|until|till|before|after|from|that|dates?|it|only|ever)$")
_AHEAD = re.compile(r"\b(?:is|are|will|going|due|booked|opens?|closes?|comes?|goes|starts?|ends?|leaves?|arrives?)\b")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def named_day(random: Random, today: date, direction: str) -> tuple[str, date]:
    """Words for a day in the future or past of `today`, and that day."""
    form = random.choice(("near", "weekday", "weekday", "days", "weeks", "absolute", "absolute"))
    if form == "near":
        return _near(random, today, direction)
    if form == "weekday":
        return _weekday(random, today, direction)
    if form == "absolute":
        return _absolute(random, today, direction)
    return _counted(random, today, direction, form)


def written(day: date) -> str:
    """27 November 2026"""
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def undated(text: str, day: str) -> str | None:
    """What happened, without the words for the day that it tells; None where it tells none, or needs one.

    >>> undated("I lost my umbrella last Friday (20 November 2026).", "20 November 2026")
    'I lost my umbrella.'
    """
    found = re.search(rf",? ?\b{_DAY} \({re.escape(day)}\)", text, re.IGNORECASE)
    if not found or _NEEDS_DAY.search(text[: found.start()]) or _AHEAD.search(text):
        return None
    left = f"{text[: found.start()]}{text[found.end() :]}".lstrip(", ")
    return left[:1].upper() + left[1:]


def _near(random: Random, today: date, direction: str) -> tuple[str, date]:
    if direction == PAST:
        return "yesterday", today - timedelta(days=1)
    if random.random() < 0.15:
        return "today", today
    if random.random() < 0.25:
        return "the day after tomorrow", today + timedelta(days=2)
    return "tomorrow", today + timedelta(days=1)


def _weekday(random: Random, today: date, direction: str) -> tuple[str, date]:
    weekday = random.randrange(7)
    if direction == PAST:
        return f"last {WEEKDAYS[weekday]}", today - timedelta(days=(today.weekday() - weekday - 1) % 7 + 1)
    if random.random() < 0.35:
        return f"this {WEEKDAYS[weekday]}", today + timedelta(days=(weekday - today.weekday()) % 7)
    return f"next {WEEKDAYS[weekday]}", today + timedelta(days=(weekday - today.weekday() - 1) % 7 + 1)


def _counted(random: Random, today: date, direction: str, unit: str) -> tuple[str, date]:
    number = random.randint(2, 10 if unit == "days" else 6)
    distance = timedelta(days=number * (7 if unit == "weeks" else 1))
    words = f"{_NUMBERS[number] if random.random() < 0.6 else number} {unit}"
    if direction == PAST:
        return f"{words} ago", today - distance
    return f"in {words}", today + distance


def _absolute(random: Random, today: date, direction: str) -> tuple[str, date]:
    distance = timedelta(days=random.randint(3, 320))  # under a year, so that the year need not be said
    day = today - distance if direction == PAST else today + distance
    month = MONTHS[day.month - 1]
    ordinal = f"{day.day}{'th' if 11 <= day.day <= 13 else {1: 'st', 2: 'nd', 3: 'rd'}.get(day.day % 10, 'th')}"
    words = random.choice(
        (f"{day.day} {month}", f"{day.day} {month}", f"the {ordinal} of {month}", f"{month} {day.day}")
    )
    return f"on {words}", day
