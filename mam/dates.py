"""Words for days ("next Friday", "two weeks ago") get their date in parentheses: a memory is read on another day.

Knows English time expressions and a calendar; does not know what a candidate is worth (see `candidates`).
A small pattern finds the expressions, so that "may", "sun" or "second" never become dates by accident and most
sentences cost nothing; dateparser works out what the pattern has found. Weekdays follow a plain rule instead of
a library's guess: next Friday is the first after today, this Friday today or the first after, last Friday the
last before today. A bare "on Friday" or "on 3 March" looks ahead, unless the sentence tells of the past.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from functools import lru_cache

import dateparser
from dateutil.relativedelta import relativedelta

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
CLAUSE = 200  # characters around an expression in which the verb of its clause is looked for
MONTHS = tuple("january february march april may june july august september october november december".split())

_NUMBER = r"(?:\d{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|a\s+couple\s+of)"
_UNIT = r"(?:day|week|month|year)s?"
_MONTH = rf"(?:{'|'.join(MONTHS)}|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.?)(?!\w)"
_NTH = r"(?:[12]?\d|3[01])(?:st|nd|rd|th)?"
_YEAR = r"(?:,?\s+(?P<{}>(?:19|20)\d\d))?(?![\w-])"

_EXPRESSION = re.compile(
    rf"""(?<![\w-])(?:
      (?P<day>(?:the\s+)?day\s+(?:after\s+tomorrow|before\s+yesterday)|today|tonight|tomorrow|yesterday|last\s+night
        |this\s+(?:morning|afternoon|evening))(?![\w-])
    | (?P<weekday>(?P<which>this|next|last|on|coming)\s+(?P<name>{"|".join(WEEKDAYS)}))(?![\w-])
    | (?P<span>(?P<turn>this|next|last)\s+(?P<unit>week|weekend|month|year))(?![\w-])
    | (?P<ahead>in\s+{_NUMBER}\s+{_UNIT}(?:['’]s?\s+time)?)(?![\w-])
    | (?P<ago>{_NUMBER}\s+{_UNIT}\s+ago)(?![\w-])
    | (?P<iso>(?:19|20)\d\d-\d\d-\d\d)(?![\w-])
    | (?<!at\ )(?P<day_month>{_NTH}\s+(?:of\s+)?{_MONTH}){_YEAR.format("year")}
    | (?P<month_day>(?P<month>{_MONTH})\s+(?:the\s+)?{_NTH}){_YEAR.format("year_after")}
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_QUICK = re.compile(rf"\d|day|night|tomorrow|week|month|year|ago|this|{'|'.join(MONTHS)}", re.IGNORECASE)
PAST_TENSE = re.compile(
    r"was|were|had|did|didn|went|got|met|saw|came|left|took|made|bought|ate|told|gave|flew|drove|found|lost|won|put"
    r"|became|began|fell|broke|sold|sent|wrote|said|heard|held|kept|ran|rode|sang|slept|spent|spoke|stood|swam|taught"
    r"|threw|woke|wore|built|brought|burst|caught|chose|dug|drew|felt|grew|knew|laid|led|lent|lit|paid|quit|rang"
    r"|rose|shot|stole|struck|swore|tore|thought|stopped|\w{2,}[^e\W]ed"
)
_PRESENT = frozenset("is are am be will going gonna must can should has have comes takes goes gets wants".split())
_PLANNED = re.compile(r"(?:re)?(?:booked|scheduled)|planned|promised|reserved|arranged|agreed|offered|managed|need\w*")
_AUXILIARY = frozenset("have has to be being been get gets getting is are am having".split())
_ARTICLE = frozenset("the my our your his her their a an".split())
_SHORT = (  # spelt out, so that "it's" is a verb and "the notary's" is none
    (re.compile(r"\b(he|she|it|that|there|who)['’]s\b"), r"\1 is"),
    (re.compile(r"['’]m\b"), " am"),
    (re.compile(r"['’]re\b"), " are"),
    (re.compile(r"['’]ve\b"), " have"),
    (re.compile(r"['’]ll\b"), " will"),
    (re.compile(r"['’]s\b"), ""),
)
_YEARLY = re.compile(
    r"\b(?:(?:birthday|anniversary|name day)(?:\s+is|\s+falls|['’]s)?(?:\s+on)?(?:\s+the)?|every|each|\bi\s+was\s+born"
    r"(?:\s+on)?(?:\s+the)?)\s*[:=]?\s*\Z",
    re.IGNORECASE,
)
_EVERY = re.compile(r"\bevery\s+\Z", re.IGNORECASE)
_EXPLAINED = re.compile(r"\s*\(")
_ALIKE = str.maketrans("ıİſ", "iis")  # letters that a pattern takes for i and s when case is ignored
_KINDS = ("day", "weekday", "span", "ahead", "ago", "iso", "day_month", "month_day")


def resolve(text: str, now: datetime) -> tuple[str, str | None]:
    """The text with every relative or yearless date followed by what it means, and the ISO date of the first.

    >>> resolve("See you next Friday.", datetime(2026, 11, 22))
    ('See you next Friday (27 November 2026).', '2026-11-27')
    """
    if not _QUICK.search(text):
        return text, None
    pieces, done, first = [], 0, None
    for match in _EXPRESSION.finditer(text):
        found = _meaning(match, text, now.date())
        if found is None:
            continue
        day, words = found
        first = first or day.isoformat()
        if words and not _EXPLAINED.match(text, match.end()):
            pieces += [text[done : match.end()], f" ({words})"]
            done = match.end()
    return "".join(pieces) + text[done:], first


def long_date(day: date) -> str:
    """27 November 2026"""
    return f"{day.day} {MONTHS[day.month - 1].title()} {day.year}"


def _meaning(match: re.Match, text: str, today: date) -> tuple[date, str] | None:
    """The day an expression speaks of and the words to add; None if it is no date after all."""
    kind = next(name for name in _KINDS if match[name])
    if kind == "weekday":
        return _weekday(match, text, today)
    if kind == "span":
        return _span(_lower(match["turn"]), _lower(match["unit"]), today)
    if kind in ("day_month", "month_day"):
        return _calendar_day(match, kind, text, today)
    if kind == "ahead" and _tells_of_past(text, match):
        return None  # "I read it in two days"
    if kind == "iso":
        day = _date(*map(int, match["iso"].split("-")))
        return (day, "") if day else None
    expression = " ".join(_lower(match[kind]).split())
    day = _parsed(_plain(expression), today)
    if day is None:
        return None
    if "year" in expression:
        return day, str(day.year)
    if "month" in expression:
        return day, f"{MONTHS[day.month - 1].title()} {day.year}"
    return day, long_date(day)


def _plain(expression: str) -> str:
    """The same day in words that dateparser knows."""
    if expression in ("tonight", "this morning", "this afternoon", "this evening"):
        return "today"
    if expression == "last night":
        return "yesterday"
    return re.sub(r"['’]s? time$|^the ", "", expression).replace("a couple of", "two")


def _weekday(match: re.Match, text: str, today: date) -> tuple[date, str] | None:
    which = _lower(match["which"])
    if _before(_EVERY, text, match):
        return None
    ahead = (WEEKDAYS.index(_lower(match["name"])) - today.weekday()) % 7  # 0..6 days, today included
    if which == "last" or (which == "on" and _tells_of_past(text, match)):
        ahead -= 7
    elif ahead == 0 and which in ("next", "coming"):
        ahead = 7
    day = today + timedelta(days=ahead)
    return day, long_date(day)


def _span(turn: str, unit: str, today: date) -> tuple[date, str]:
    step = {"last": -1, "this": 0, "next": 1}[turn]
    monday = today - timedelta(days=today.weekday())
    if unit == "week":
        day = monday + timedelta(weeks=step)
        return day, f"week of {long_date(day)}"
    if unit == "weekend":
        day = monday + timedelta(days=5, weeks=step)
        return day, f"weekend of {long_date(day)}"
    if unit == "month":
        day = today.replace(day=1) + relativedelta(months=step)
        return day, f"{MONTHS[day.month - 1].title()} {day.year}"
    day = date(today.year + step, 1, 1)
    return day, str(day.year)


def _calendar_day(match: re.Match, kind: str, text: str, today: date) -> tuple[date, str] | None:
    word = match["month"]
    if kind == "month_day" and word in ("may", "march", "mar") and not re.search(r"(?:st|nd|rd|th)\Z", match[kind]):
        return None  # "they may 2 or 3 times", "we march 4 miles"
    said = _lower(match[kind])
    number = int(re.search(r"\d+", said)[0])
    month = next(at for at, name in enumerate(MONTHS, 1) if name[:3] in said)
    if year := match["year"] or match["year_after"]:
        day = _date(int(year), month, number)
        return (day, "") if day else None
    if _before(_YEARLY, text, match):
        return None  # the same day every year
    past = _tells_of_past(text, match)
    step = -1 if past else 1
    for year in range(today.year, today.year + 9 * step, step):  # up to 8 years to the next 29 February
        day = _date(year, month, number)
        if day and (day <= today if past else day >= today):
            return day, long_date(day)
    return None


def _tells_of_past(text: str, match: re.Match) -> bool:
    """Whether the verb nearest to an expression, in its clause and before it if there is one, is in the past tense.

    A perfect ("I've booked"), a passive ("it'll be delivered") and an adjective ("the finished one") are not.
    """
    before = re.split(r"[,;:]", text[max(0, match.start() - CLAUSE) : match.start()])[-1]
    after = text[match.end() : match.end() + CLAUSE]
    after = re.split(r"[,;:]", after)[0] if before.strip() else after
    ahead = _is_past(_words(before), nearest_last=True)
    return bool(_is_past(_words(after), nearest_last=False) if ahead is None else ahead)


def _before(pattern: re.Pattern, text: str, match: re.Match) -> bool:
    """Whether the words right before an expression are these; the pattern ends with \\Z."""
    return bool(pattern.search(text, max(0, match.start() - CLAUSE), match.start()))


def _lower(text: str) -> str:
    return text.translate(_ALIKE).lower()


def _words(text: str) -> list[str]:
    text = text.lower()
    for short, spelt in _SHORT if "'" in text or "’" in text else ():
        text = short.sub(spelt, text)
    return re.findall(r"\w+", text)


def _is_past(words: list[str], *, nearest_last: bool) -> bool | None:
    """Tense of the nearest verb that shows it; None if none does."""
    for place in reversed(range(len(words))) if nearest_last else range(len(words)):
        if PAST_TENSE.fullmatch(words[place]) and not _PLANNED.fullmatch(words[place]):
            if not (
                _AUXILIARY.intersection(words[max(0, place - 2) : place])
                or _ARTICLE.intersection(words[place - 1 : place])
            ):
                return True
        elif words[place] in _PRESENT:
            return False
    return None


def _date(year: int, month: int, day: int) -> date | None:
    """None for a day that no calendar has. Not by dateparser, which is slow: a message may be a list of dates."""
    try:
        return date(year, month, day)
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def _parsed(expression: str, today: date) -> date | None:
    base = datetime(today.year, today.month, today.day, 12)
    settings = {"RELATIVE_BASE": base, "DATE_ORDER": "DMY", "PARSERS": ["absolute-time", "relative-time"]}
    found = dateparser.parse(expression, languages=["en"], settings=settings)
    return found.date() if found else None
