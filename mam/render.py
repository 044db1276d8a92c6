"""How a slot is read, by the reader's second look and by the base alike: who said it, what, and on what day if asked.

    I keep bees.                                   the user's, and what a document says
    Ana: I keep bees.                              somebody else's
    I lost my umbrella. (told on 3 May 2026)       to "When did I …?", unless the slot says when

Both read the same words, so that nothing is found by what the other cannot see. The slot's own text stays in one
piece: what was made of it is found by that text when it is edited, deleted or purged.
"""

from __future__ import annotations

import re

from mam.dates import MONTHS, WEEKDAYS, long_date
from mam.values import USER, Slot

_WHEN = re.compile(
    r"\b(?:when|(?:what|which)\s+(?:\w+\s+)?(?:date|day|week|weekend|month|year)|how\s+long)\s+"
    r"(?:did|was|were|have|has|had)\b|\bhow\s+long\s+ago\b|\bsince\s+when\b",
    re.IGNORECASE,
)
_SAYS_WHEN = re.compile(
    rf"\b(?:{'|'.join(MONTHS)}|(?:{'|'.join(WEEKDAYS)})s?|(?:1\d|20)\d\d|\d\d?[:.]\d\d|\d\d?\s*[ap]\.?m|o['’]clock)\b",
    re.IGNORECASE,
)


def asks_when(message: str) -> bool:
    """Whether it asks on what day something was: "When did I …?", "Which year was …?"; not "When does it open?"."""
    return bool(_WHEN.search(message))


def render(slot: Slot, dated: bool = False) -> str:
    """The slot in words. dated: with the day it was told on, unless it says when."""
    text = slot.text if slot.speaker == USER or slot.document else f"{slot.speaker}: {slot.text}"
    if dated and not slot.when and not _SAYS_WHEN.search(slot.text):
        text += f" (told on {long_date(slot.told.astimezone().date())})"
    return text
