"""Whom "she" means: a sentence that leans on the one before it is told again with its subject, where that is sure.

    My sister Anna lives in Oslo. | Actually she moved to Bergen. -> Actually my sister Anna moved to Bergen.

Only for a person ("my sister") at the beginning of both sentences, and only where the first has nobody else in it whom
the pronoun could mean. Everything else keeps its antecedent in front of it (see `candidates`). Rules for English; knows
nothing of slots.
"""

from __future__ import annotations

import re

WOMEN = frozenset((
    "sister", "mother", "aunt", "grandmother", "wife", "daughter", "niece", "stepmother", "godmother", "girlfriend",
    "stepdaughter", "goddaughter", "stepsister", "granddaughter", "great-aunt", "mother-in-law", "sister-in-law", "mum",
    "mom", "auntie", "grandma", "granny", "gran", "daughter-in-law", "ex-wife", "ex-girlfriend", "landlady",
))  # fmt: skip
MEN = frozenset((
    "brother", "father", "uncle", "grandfather", "husband", "son", "nephew", "stepfather", "godfather", "boyfriend",
    "stepson", "godson", "stepbrother", "grandson", "great-uncle", "father-in-law", "brother-in-law", "dad", "grandpa",
    "granddad", "son-in-law", "ex-husband", "ex-boyfriend",
))  # fmt: skip
_ANYONE = frozenset((
    "friend", "colleague", "neighbour", "neighbor", "boss", "teacher", "doctor", "dentist", "child", "kid", "baby",
    "twin", "parent", "partner", "cousin", "sibling", "man", "woman", "boy", "girl", "guy", "person", "roommate",
    "flatmate", "classmate", "manager", "coach", "student", "landlord", "fiance", "fiancee", "dog",
    "puppy", "cat", "kitten", "pet", "horse", "pony", "rabbit", "hamster", "bird", "parrot", *WOMEN, *MEN,
))  # fmt: skip
VERB = (  # of the third person
    r"(?:(?:is|was|has|had|does|did|can|will|would|could|should|must|isn|wasn|doesn|didn|won|went|got|met|came|left"
    r"|took|made|bought|gave|lost|became|began|grew|just|also|really|never|always|usually|often|still|now"
    r"|[a-z]{2,}(?:ed|[^s\W]s))\b|['’]s\s)"
)
_LEAD = (
    r"\W*(?:(?:actually|and|but|so|now|also|then|oh|yes|yeah|no|well|besides|apparently|by the way)\b[\s,:…-]*){0,3}"
)
_PERSON = rf"(?:{'|'.join(sorted(_ANYONE, key=len, reverse=True))})"
_SUBJECT = re.compile(  # "my", at most two words, the person, at most two names
    rf"{_LEAD}(?P<who>(?:my|our)\s+(?:(?!(?:and|or|of|with)\b)[a-z-]+\s+){{0,2}}?{_PERSON}"
    rf"(?:\s+(?-i:[A-Z])[\w-]+){{0,2}})\s+(?=(?-i:{VERB}))",
    re.IGNORECASE,
)
_PRONOUN = re.compile(rf"(?P<lead>{_LEAD})(?P<who>she|he|her|his)\b(?!\s+(?:and|or)\b)", re.IGNORECASE)
_ELSE = "it|its|they|them|their|theirs|there|that|this|those|these|one|ones|then"  # points at something else
_PLACE = re.compile(r"\b(?:in|at|to|from|near|on)\s+(?:the\s+)?[A-Z][\w'’-]*(?:\s+[A-Z][\w'’-]*)*")
_NAME, _OWN_NAME = re.compile(r"\b[A-Z]"), re.compile(r"\b(?:is|was|called|named|name|by|['’]s)\W+[A-Z]")
_SOMEBODY = re.compile(  # or something that can be spoken of as of a person: a tutor, another cat
    rf"\b(?:he|she|him|her|his|hers|they|them|another|new|{_PERSON}s?)\b|(?<!\bis )(?<!\bwas )(?<!\bas )\ban?\b",
    re.IGNORECASE,
)


def subject(text: str) -> str:
    """Who a text that begins with somebody is about; "" for any other.

    >>> subject("My sister Anna lives in Oslo.")
    'My sister Anna'
    """
    found = _SUBJECT.match(text)
    return found["who"].rstrip() if found else ""


def named(said: str, antecedent: str, corrects: bool = False) -> str:
    """`said` with its subject in place of the pronoun that it begins with; "" where it is not sure who that is.

    corrects: it says something else of the same person, so that names in the antecedent do not matter.

    >>> named("Actually her dog is ill.", "My sister Anna lives in Oslo.")
    "Actually my sister Anna's dog is ill."
    """
    found, about = _PRONOUN.match(said), subject(antecedent)
    if not found or not about:
        return ""
    she, who = found["who"].lower() in ("she", "her"), set(about.lower().split())
    if who & (MEN if she else WOMEN):
        return ""
    rest = said[found.end() :]
    if re.search(rf"\b(?:{_ELSE}|{'he|him|his' if she else 'she|her|hers'})\b", rest, re.IGNORECASE):
        return ""
    known = bool(who & (WOMEN if she else MEN))
    if _others(antecedent.partition(about)[2], known, names=not corrects):
        return ""
    first = about[0].lower() if found["lead"].strip() and re.match("my|our", about, re.IGNORECASE) else about[0].upper()
    whose = "'s" if found["who"].lower() in ("her", "his") else ""
    return f"{found['lead']}{first}{about[1:]}{whose}{rest}"


def _others(text: str, known: bool, names: bool) -> bool:
    """Whether somebody else may be meant in a text, or the very name of its subject stands there.

    names: whether names are looked at; of a subject that is known to be one of whom such a pronoun is said, only those
    that may be its own.
    """
    text = _PLACE.sub("", text)
    return bool(_SOMEBODY.search(text) or names and (_OWN_NAME if known else _NAME).search(text))
