"""Splits an utterance into candidates: the pieces that the write gate judges.

First step of a turn. A piece is a sentence, or a clause where one sentence tells two things. It must be
understandable alone, months later: a sentence that leans on another one ("He lives there.") says whom it means where
that is sure (see `pronouns`), or else keeps the other one in its text; an answer keeps its question, and dates are
worked out (see `dates`). It does not know what is worth keeping.

Rules, not a parser: a parser would cost more than the whole turn. When in doubt a sentence stays whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

import sentencex

from mam.dates import resolve
from mam.pronouns import VERB, named
from mam.values import USER, Candidate

BACK = 3  # how many sentences back an antecedent is looked for
CONTEXT = 400  # characters of what was said before that a candidate keeps
WINDOW = 10_000  # characters that are cut into sentences at once

# sentencex knows abbreviations; chat needs more ends: lines, "!!" before a small letter, a closing emoji.
_END = re.compile(r"\n+|(?<=[!?])\s+|(?<=[\U0001F300-\U0001FAFF\u2600-\u27BF])\uFE0F?\s+(?=\w)")
_BULLET = re.compile(r"(?:[-*•>#]+|\d{1,2}[.)])\s+")

_VERB = (
    r"(?:(?:is|are|was|were|am|has|have|had|do|does|did|can|will|would|could|should|must|isn|aren|wasn|don|doesn|didn"
    r"|won|can|live|work|love|like|hate|want|need|prefer|study|play|speak|own|use|know|think|hope|plan|feel|eat|drink"
    r"|drive|go|went|got|get|met|saw|came|left|took|made|bought|ate|told|gave|lost|won|became|began|grew|moved|keep"
    r"|kept|teach|taught|run|ran|broke|put|sold|said|just|also|really|never|always|usually|often|still|now|both)\b|['’])"
)
_CLAUSE = re.compile(
    rf"(?:(?<!\s)\s*;\s+|(?:,|(?<!\s))\s+(?:and|but)\s+|,\s+(?:while|whereas)\s+)(?:also\s+|then\s+)?(?=(?P<right>"
    rf"(?:I|we)(?:\s+{_VERB}|['’])|(?:my|our)\s+(?:[\w-]+\s+){{1,3}}?{VERB}|(?-i:[A-Z])[\w-]+\s+{VERB}))",
    re.IGNORECASE,
)
_LEFT = re.compile(
    rf"\b(?:I|we)(?:\s+\w+|['’])|\b(?:my|our|his|her|their|the)\s+(?:[\w-]+\s+){{1,3}}?{VERB}"
    rf"|(?-i:\b[A-Z])[\w-]+\s+{VERB}|\b(?:he|she|it|they|there|that|this)(?:\s+\w+|['’])",
    re.IGNORECASE,
)
_SUBORDINATE = re.compile(
    r"\s*(?:when|if|because|since|after|before|although|though|while|whether|as|unless|until|once)\b", re.IGNORECASE
)

_PRONOUN = re.compile(
    r"\b(?:he|she|they|him|her|them|his|hers|their|theirs|it|its|the other one|the others?)\b", re.IGNORECASE
)
_EMPTY_IT = re.compile(  # "it" and "they" that point at nothing said before
    r"\b(?:it|that)(?:['’]s|\s+is|\s+was|\s+will(?:\s+be)?|['’]ll(?:\s+be)?|\s+ha[sd]|['’]d)?(?:\s+been)?\s+"
    r"(?:(?:so|very|really|too|getting|only|just|still)\s+)*(?:rain|snow|pour|freez|hail|thunder"
    r"|cold|hot|warm|late|early|dark|sunny|windy|nice to|good to|hard to|easy to"
    r"|time|seem|take|took|turn|look|feel|settled|true that|all |may be)\w*"
    r"|^\W*it(?:['’]s|\s+is)\s+\w+\s+(?:again|here|speaking)\b"
    r"|\bat\s+(?:the\s+)?(?!last|first|least)\w+,?\s+they\b|^\W*they\s+say\b",
    re.IGNORECASE,
)
_ANTECEDENT = re.compile(
    r"\b(?:my|our|the|an?|this|some|two|three)\s+\w{2,}|(?<!^)(?<![.!?]\s)\b(?-i:(?!I\b)[A-Z])\w+", re.IGNORECASE
)
_NAME_FIRST = re.compile(rf"\W*(?!(?:I|He|She|It|They|We|You|His|Her|Its|Their|That|This|There)\b)[A-Z]\w+\s+{VERB}")
_PLACE = re.compile(
    r"\b(?:live|lives|lived|work|works|worked|went|go|goes|been|moved|stay|stayed|was|were|is|are|from|grew up|born|met"
    r"|it|him|her|them|study|studied|over|back|up|down|get|getting|got)\s+there\b|^\W*there,?\s+(?:he|she|we|i|they)\b",
    re.IGNORECASE,
)
_THAT = re.compile(
    r"^\W*(?:and\s+|but\s+|so\s+)?(?:that|this|those|these)(?:['’]s|\s+(?:is|was|are|were|will|would|made|makes|happened))\b"
    r"|\b(?:like|love|hate|about|of|with|do|did|want|need|remember|for|called)\s+(?:that|this|those|these)\W*$"
    r"|^\W*(?:one|both|neither|the (?:first|second) one)\s+(?:is|was|are|were|has|have|of them)\b"
    r"|^\W*(?:then|back then|since then|after that|before that|that day|at that time)\b|\b(?:since|until|back) then\b",
    re.IGNORECASE,
)
_ANY_VERB = re.compile(
    rf"\b(?:{_VERB}|I\b|\w+(?:n['’]t|['’](?:m|re|ve|ll))\b)|\b[a-z]{{3,}}(?:ed|ing)\b", re.IGNORECASE
)


def split(
    text: str,
    *,
    speaker: str = USER,
    now: datetime,
    context: str = "",
    earlier: Sequence[tuple[str, datetime]] = (),
) -> list[Candidate]:
    """The candidates of an utterance, in order; `said` is `text[span[0]:span[1]]`.

    `now` is the speaker's own time: days are counted from it. `context` is what was said just before, usually
    by the other side; if it ends in a question, a first fragment is kept as its answer. `earlier` are the speaker's own
    previous messages, each with its time, where "he" or "there" may point.
    """
    pieces = [(piece, at) for message, at in earlier for piece, _ in _pieces(message[-WINDOW:])]
    before = [(piece, *resolve(piece, at)) for piece, at in pieces[-BACK:]]  # as said; with dates; the first of these
    question = _last_question(context)
    candidates: list[Candidate] = []
    last = context[-CONTEXT:]
    for said, start in _pieces(text):
        dated, when = alone, date = resolve(said, now)
        if not candidates and question and _is_fragment(said):
            alone, date = resolve(f"{question} {said}", now)
        elif _leans(said):
            for words, antecedent, its_date in reversed(before[-BACK:]):
                if _can_precede(words):
                    alone, date = named(dated, antecedent), when
                    if not alone:
                        alone, date = f"{ended(antecedent)} {dated}", when or its_date
                    break
        span = (start, start + len(said))
        candidates.append(Candidate(alone, said, span, speaker, context=last, when=date))
        before.append((said, dated, when))
        last = said
    return candidates


def sentences(text: str) -> list[tuple[str, int]]:
    """Sentences of a text with the character each starts at; bullets and blanks left out."""
    found = []
    for begin, over in _boundaries(text):
        start = begin
        for match in [*_END.finditer(text[begin:over]), None]:
            end = over if match is None else begin + match.start()
            found += _trimmed(text, start, end)
            start = end
    return found


def _boundaries(text: str) -> Iterator[tuple[int, int]]:
    """Where sentences begin and end.

    In windows, because sentencex takes quadratic time for a text that is not ASCII. The last sentence in a window may
    go on behind it: the next window begins with it, or, where no sentence ends in a window, goes on inside of it.
    """
    begin = start = 0  # of the sentence that is not over; of the window
    while start < len(text):
        parts = sentencex.get_sentence_boundaries("en", text[start : start + WINDOW])
        ends = [start + part["end_index"] for part in parts]
        more = start + WINDOW < len(text)
        for end in ends[:-1] if more else ends:
            yield begin, end
            begin = end
        start = begin if more and len(ends) > 1 else start + WINDOW


def _trimmed(text: str, start: int, end: int) -> list[tuple[str, int]]:
    while start < end and text[start].isspace():
        start += 1
    if bullet := _BULLET.match(text, start, end):
        start = bullet.end()
    said = text[start:end].rstrip()
    return [(said, start)] if re.search(r"\w", said) else []


def _pieces(text: str) -> list[tuple[str, int]]:
    """Sentences, and the clauses of those that tell several things."""
    return [piece for sentence, start in sentences(text) for piece in _clauses(sentence, start)]


def _clauses(sentence: str, start: int) -> list[tuple[str, int]]:
    if sentence.endswith("?") or _SUBORDINATE.match(sentence):
        return [(sentence, start)]
    cuts, begin = [], 0
    for match in _CLAUSE.finditer(sentence):
        if _LEFT.search(sentence, begin, match.start()):
            cuts.append((begin, match.start()))
            begin = match.end()
    cuts.append((begin, len(sentence)))
    return [(sentence[a:b], start + a) for a, b in cuts]


def _leans(said: str) -> bool:
    """Whether a sentence points at something said before it."""
    plain = _EMPTY_IT.sub("", said)
    pronoun = _PRONOUN.search(plain)
    if pronoun and not (_ANTECEDENT.search(plain, 0, pronoun.start()) or _NAME_FIRST.match(plain)):
        return True
    return bool(_PLACE.search(plain) and not re.search(r"\b(?:in|at|to)\s+(?!be\b)\w+", plain)) or bool(
        _THAT.search(plain)
    )


def _can_precede(piece: str) -> bool:
    return not _leans(piece) and (len(piece.split()) > 2 or bool(_ANY_VERB.search(piece)))


def _is_fragment(said: str) -> bool:
    return len(said.split()) <= 8 and not _ANY_VERB.search(said) and not said.endswith("?")


def _last_question(context: str) -> str:
    found = sentences(context[-2000:])
    return found[-1][0] if found and found[-1][0].endswith("?") else ""


def ended(sentence: str) -> str:
    """The sentence, with a full stop where it has no sign at its end."""
    sentence = sentence.rstrip(",;: ")
    return f"{sentence}." if sentence[-1:].isalnum() or sentence.endswith(")") else sentence
