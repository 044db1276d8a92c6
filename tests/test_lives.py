"""Generated lives: the same everywhere, honest in their labels, and with nothing shared between the splits."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from random import Random

import pytest

from mam.errors import InputError
from mam.lives import UNKNOWN, commands, coverage, general_prompts, life, personal_questions
from mam.lives.days import WEEKDAYS, named_day, written
from mam.lives.kinds import FUTURE, PAST, SPLITS, held_out, kinds, phrases, problems
from mam.lives.phrasing import filled, framed, roughened

LIVES = [life(seed, split) for split in SPLITS for seed in range(40)]


def test_same_seed_same_life_in_another_process():
    script = (
        "from mam.lives import life; import hashlib; print(hashlib.sha256(repr(life(7, 'val')).encode()).hexdigest())"
    )
    command = [sys.executable, "-c", script]
    root = Path(__file__).parent.parent
    hashes = {
        subprocess.run(
            command, cwd=root, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1
    assert life(7, "val") == life(7, "val") != life(8, "val")


def test_splits_share_no_family_no_phrase_and_no_train_value():
    counts = coverage()
    assert counts["train"]["families"] > counts["test"]["families"] > counts["val"]["families"] > 0
    for split in SPLITS:
        assert all(held_out(value) != (split == "train") for kind in kinds(split) for value in kind.values)


def test_no_life_uses_a_value_or_phrase_of_another_split():
    for one in LIVES:
        names = {kind.name for kind in kinds(one.split)} | {"relative_name"}
        assert {fact.kind for fact in one.facts} <= names
        for fact in one.facts:
            if not re.fullmatch(r"\d+ [A-Z][a-z]+ \d{4}", fact.value):
                assert held_out(fact.value) != (one.split == "train")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("section", ["leadins", "frames", "name_tell", "name_ask", "chatter", "reactions", "general"])
def test_every_split_has_phrases_of_its_own(split, section):
    assert len(phrases(split, section)) >= 2


def test_all_kinds_obey_the_schema():
    assert problems() == []


def test_facts_hold_their_values_and_stand_where_they_were_told():
    for one in LIVES:
        assert len(one.facts) == 24
        for fact in one.facts:
            assert fact.value.casefold() in fact.text.casefold()
            assert not re.search(r"[{}]|  ", fact.text)
            assert one.sessions[fact.session].started <= fact.told
        assert [fact.told for fact in one.facts] == sorted(fact.told for fact in one.facts)


def test_labels_add_up():
    for one in LIVES:
        told = [
            (number, utterance.speaker, sentence)
            for number, session in enumerate(one.sessions)
            for utterance in session.utterances
            for sentence in utterance.sentences
        ]
        kept = [(number, speaker, sentence) for number, speaker, sentence in told if sentence.keep]
        assert [sentence.fact for _, _, sentence in kept] == list(range(len(one.facts)))
        for number, speaker, sentence in kept:
            fact = one.facts[sentence.fact]
            assert speaker == "user" and number == fact.session
            assert sentence.kind == ("update" if fact.replaces is not None else "fact")
        assert all(sentence.fact is None for _, _, sentence in told if not sentence.keep)


def test_user_and_assistant_take_turns():
    for one in LIVES:
        for session in one.sessions:
            speakers = [utterance.speaker for utterance in session.utterances]
            assert speakers == ["user", "assistant"] * (len(speakers) // 2)


def test_answers_are_in_the_evidence():
    seen = set()
    for one in LIVES:
        for question in one.questions:
            seen.add(question.type)
            evidence = " ".join(one.facts[index].text for index in question.evidence).casefold()
            assert all(value.casefold() in evidence for value in question.values)
            assert all(value.casefold() in question.answer.casefold() for value in question.values)
            assert not any(value.casefold() in question.text.casefold() for value in question.values if len(value) > 3)
            assert bool(question.evidence) == bool(question.values) == (question.type != "unknown")
    assert seen == {"single", "list", "hop", "date", "updated", "unknown"}


def test_every_fact_still_true_is_asked_for_once():
    for one in LIVES:
        replaced = {fact.replaces for fact in one.facts}
        asked = [question.evidence[-1:] if question.type == "hop" else question.evidence for question in one.questions]
        found = sorted(index for evidence in asked for index in evidence)
        assert found == [index for index in range(len(one.facts)) if index not in replaced]


def test_unknown_things_were_never_told():
    for one in LIVES:
        told = {(fact.kind, fact.subject) for fact in one.facts}
        unknown = [question for question in one.questions if question.type == "unknown"]
        assert len(unknown) == 8
        assert all(question.answer == UNKNOWN for question in unknown)
        assert not told & {(question.kind, question.subject) for question in unknown}


def test_no_question_is_meant_twice():
    for one in LIVES:
        meant = [(question.kind, question.subject) for question in one.questions]
        assert len(meant) == len(set(meant))


def test_updates_come_later_and_make_the_old_value_stale():
    for one in LIVES:
        for new in one.facts:
            if new.replaces is None:
                continue
            old = one.facts[new.replaces]
            assert (old.kind, old.subject) == (new.kind, new.subject)
            assert old.session < new.session and old.value != new.value
            question = next(q for q in one.questions if one.facts.index(new) in q.evidence)
            assert question.type == "updated" and len(question.stale) == 1


def test_a_question_by_relation_needs_the_name_as_well():
    hops = [(one, question) for one in LIVES for question in one.questions if question.type == "hop"]
    assert hops
    for one, question in hops:
        name, fact = (one.facts[index] for index in question.evidence)
        assert name.kind == "relative_name" and name.subject == fact.subject == question.subject
        by_name = name.value in fact.text and f"my {fact.subject}" not in fact.text.lower()
        assert by_name or name.value in question.text


def test_a_pronoun_keeps_the_sentence_that_it_points_to():
    pronouns = [
        (one, sentence)
        for one in LIVES
        for session in one.sessions
        for utterance in session.utterances
        for sentence in utterance.sentences
        if sentence.keep and re.match(r"(He|She|His|Her) ", sentence.text)
    ]
    assert pronouns
    for one, sentence in pronouns:
        fact = one.facts[sentence.fact]
        assert one.facts[sentence.fact - 1].subject == fact.subject
        assert fact.text.startswith(one.facts[sentence.fact - 1].text)


@pytest.mark.parametrize("direction", [FUTURE, PAST])
def test_days_mean_what_they_say(direction):
    random = Random(5)
    units = {"days": 1, "weeks": 7}
    words_of = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    numbers = dict(zip(words_of, range(2, 11), strict=True))
    for number in range(600):
        today = date(2026, 1, 1) + timedelta(days=number)
        words, day = named_day(random, today, direction)
        assert day <= today if direction == PAST else day >= today
        first, _, rest = words.partition(" ")
        if rest in WEEKDAYS:
            assert day.strftime("%A") == rest and 0 <= abs((day - today).days) <= 7
            assert first == "this" or day != today
        elif words.startswith("on "):
            assert str(day.day) in words and day.strftime("%B") in words and abs((day - today).days) < 365
        elif count := re.fullmatch(r"(?:in )?(\w+) (days|weeks)(?: ago)?", words):
            amount = numbers.get(count[1]) or int(count[1])
            assert abs((day - today).days) == amount * units[count[2]]
        else:
            fixed = {"today": 0, "tomorrow": 1, "the day after tomorrow": 2, "yesterday": -1}
            assert (day - today).days == fixed[words]


def test_next_and_last_on_the_same_weekday_are_a_week_away():
    friday, found = date(2026, 11, 27), {}
    for seed in range(2000):
        for direction in (FUTURE, PAST):
            words, day = named_day(Random(seed), friday, direction)
            found[words] = day
    assert found["next Friday"] == date(2026, 12, 4) and found["last Friday"] == date(2026, 11, 20)
    assert found["this Friday"] == friday and found["next Thursday"] == date(2026, 12, 3)


def test_dated_facts_hold_the_date_in_parentheses():
    dated = [
        (one, one.facts[question.evidence[-1]])
        for one in LIVES
        for question in one.questions
        if question.type == "date"
    ]
    assert dated
    for one, fact in dated:
        assert f"({fact.value})" in fact.text
        said = [s.text for u in one.sessions[fact.session].utterances for s in u.sentences if s.keep]
        assert not any(f"({fact.value})" in text for text in said)
    assert written(date(2026, 11, 27)) == "27 November 2026"


def test_slips_never_touch_a_value():
    for seed in range(300):
        template = roughened(Random(seed), "Because of my sister I really love {v}, and that for years.", last=True)
        assert "McDuff-Example" in filled(template, v="McDuff-Example")


def test_frames_and_values_keep_their_capitals():
    assert framed("By the way, {t}", "My dog is called {v}.") == "By the way, my dog is called {v}."
    assert framed("By the way, {t}", "I have a dog.") == "By the way, I have a dog."
    assert framed("Hello! {t}", "What is it?") == "Hello! What is it?"
    assert filled("{v} are great. {v} too.", v="plums") == "Plums are great. Plums too."


def test_prompts_do_not_overlap():
    for prompts in (general_prompts, commands, personal_questions):
        dealt = [set(prompts(split)) for split in SPLITS]
        assert all(dealt) and sum(map(len, dealt)) == len(set.union(*dealt))


def test_sizes_are_respected_and_wrong_ones_refused():
    small = life(1, "train", sessions=1, facts=3, talk=0)
    assert len(small.sessions) == 1 and len(small.facts) == 3
    assert all(s.keep for u in small.sessions[0].utterances if u.speaker == "user" for s in u.sentences)
    for wrong in ({"split": "dev"}, {"sessions": 0}, {"facts": 0}, {"talk": -1}):
        with pytest.raises(InputError):
            life(1, **wrong)
