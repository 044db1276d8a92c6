"""How somebody types: lead-ins, joined sentences, lower case, a missing full stop, a slip of the finger.

All of it works on templates before values are filled in, so that a value is never touched.
"""

from __future__ import annotations

import re
from random import Random

_SHORT = (
    (r"\bgoing to (?=[a-z])", "gonna "), (r"\bwant to\b", "wanna"), (r"\bbecause\b", "cos"), (r"\byou\b", "u"),
    (r"\breally\b", "rly"), (r"\bpeople\b", "ppl"), (r"\bthough\b", "tho"), (r"\bplease\b", "pls"),
    (r"\band\b", "&"), (r"n't\b", "nt"),
)  # fmt: skip
_PROPER = re.compile(
    r"\{|(I|I['’]\w+|[A-Z]{2,}\w*|\d|Mr|Mrs|Ms|Dr|(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
    r"|January|February|March|April|May|June|July|August|September|October|November|December|Christmas|Easter|God)\b"
)


def lowered(text: str) -> str:
    """The text with a small first letter, unless its first word is always written with a capital."""
    return text if _PROPER.match(text) else text[:1].lower() + text[1:]


def framed(frame: str, text: str) -> str:
    """Puts a sentence into a frame such as "By the way, {t}"; inside the frame's own sentence it starts small."""
    before = frame.partition("{t}")[0].rstrip()
    return frame.replace("{t}", text if not before or before[-1] in ".!?" else lowered(text))


def filled(template: str, **values: str) -> str:
    """The template with its marks filled in; a value that starts a sentence gets a capital letter."""
    for mark, value in values.items():
        start = value[:1].upper() + value[1:]
        template = re.sub(rf"(^|[.!?] ){{{mark}}}", lambda found, start=start: found[1] + start, template)
        template = template.replace(f"{{{mark}}}", value)
    return template


def roughened(random: Random, template: str, *, last: bool) -> str:
    """The template as it might really be typed. `last`: nothing follows, so that the full stop may go missing."""
    roll = random.random()
    if roll < 0.70:
        return template
    if roll < 0.78:
        template = lowered(template)
        return template[:-1] if last and template.endswith(".") else template
    if roll < 0.83:
        return template[:-1] if last and template.endswith(".") else template
    if roll < 0.89:
        return template[:-1] + "!" if template.endswith(".") else template
    if roll < 0.96:
        return _shortened(random, template)
    return _mistyped(random, template)


def _shortened(random: Random, template: str) -> str:
    fitting = [(long, short) for long, short in _SHORT if re.search(long, template)]
    if not fitting:
        return lowered(template)
    long, short = random.choice(fitting)
    return re.sub(long, short, template, count=1)


def _mistyped(random: Random, template: str) -> str:
    """Swaps two neighbouring letters inside one longer word."""
    words = [word for word in re.finditer(r"(?<![{'’\w-])[a-z]{5,}(?![}'’\w-])", template)]
    if not words:
        return template
    at = (word := random.choice(words)).start() + random.randint(1, len(word[0]) - 3)
    return template[:at] + template[at + 1] + template[at] + template[at + 2 :]
