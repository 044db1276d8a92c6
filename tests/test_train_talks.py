"""Scenes of two named people: asked about in the third person, never one for the other, days where they are wanted."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from mam.lives import Question
from mam.lives.days import undated
from mam.render import asks_when
from mam.train.data import scene
from mam.train.talks import about, plain, talk_scene


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("Where do I keep my bees when I travel?", "Where does Ana keep their bees when they travel?"),
        ("What's my sister called?", "What's Ana's sister called?"),
        ("What am I building in miniature?", "What is Ana building in miniature?"),
        ("Which clubs have I joined?", "Which clubs has Ana joined?"),
        ("What does my uncle think of me?", "What does Ana's uncle think of them?"),
        ("Which tree did we plant, and where's mine?", "Which tree did Ana plant, and where's theirs?"),
        ("Who taught me to swim?", "Who taught Ana to swim?"),
        ("What is it that I try every day?", "What is it that Ana tries every day?"),
        ("Where was I when I said I'd move?", "Where was Ana when they said they would move?"),
        ("Can you tell me who I met?", "Can you tell me who Ana met?"),
        ("Do I hurt myself?", "Does Ana hurt themselves?"),
    ],
)
def test_a_question_is_put_into_the_third_person(asked, wanted):
    assert about(asked, "Ana") == wanted


@pytest.mark.parametrize(
    ("text", "day", "wanted"),
    [
        ("My hard drive died on the 8th of January (8 January 2025).", "8 January 2025", "My hard drive died."),
        ("Yesterday (14 July 2025) I gave up meat.", "14 July 2025", "I gave up meat."),
        ("They chose me last Friday (3 May 2026), at last.", "3 May 2026", "They chose me, at last."),
        ("My operation was last Friday (3 May 2026).", "3 May 2026", None),  # makes no sense without its day
        ("I'm going to Rome on 3 May (3 May 2026).", "3 May 2026", None),  # the day it is told on is another one
        ("I have a dog.", "3 May 2026", None),
    ],
)
def test_what_happened_can_be_told_without_its_day(text, day, wanted):
    assert undated(text, day) == wanted


@pytest.fixture(scope="module")
def talks():
    return [talk_scene(seed, split) for split in ("train", "val") for seed in range(25)]


def test_two_people_speak_and_are_asked_about_by_name(talks):
    for talk in talks:
        names = {slot.speaker for slot in talk.slots}
        assert len(names) == 2 and "user" not in names
        for asked in talk.asked:
            tellers = {talk.slots[row].speaker for row in asked.rows}
            assert len(tellers) <= 1, "an answer comes from one of them"
            assert "I" not in asked.text.split()
            other = names - tellers
            assert not asked.rows or not any(name in asked.text for name in other)
    named = [any(slot.speaker in asked.text for slot in talk.slots) for talk in talks for asked in talk.asked]
    assert sum(named) > 0.9 * len(named)


def test_the_answer_stands_where_it_is_looked_for(talks):
    for talk in talks:
        for asked in talk.asked:
            said = " ".join(talk.slots[row].text.lower() for row in asked.rows)
            told = {f"{slot.told.day} {slot.told:%B %Y}" for row in asked.rows for slot in [talk.slots[row]]}
            for value in asked.values:
                words = value.lower().replace("their ", "").split()
                assert asks_when(asked.text) and value in told or all(word in said for word in words), asked


def test_what_one_has_told_is_also_asked_about_the_other(talks):
    swapped = 0
    for talk in talks:
        told = {asked.text for asked in talk.asked if asked.rows}
        for one, other in permutations({slot.speaker for slot in talk.slots}):
            swapped += sum(not asked.rows and asked.text.replace(one, other) in told for asked in talk.asked)
    assert swapped > 2 * len(talks)


def test_days_are_asked_for_that_only_the_telling_says(talks):
    told = [
        asked for talk in talks for asked in talk.asked
        if asked.rows and asks_when(asked.text) and asked.answer not in talk.slots[asked.rows[-1]].text
    ]  # fmt: skip
    assert len(told) >= 5
    own = [asked for seed in range(60) for asked in scene(seed).asked if asked.answer.startswith("You told me that on")]
    assert own and all(asks_when(asked.text) for asked in own)


def test_a_scene_is_the_same_every_time():
    assert talk_scene(3) == talk_scene(3) != talk_scene(4)


def test_questions_with_more_than_the_question_are_left_out():
    question = Question("My head is like a sieve. What do I keep?", "single", "You keep bees.", ("bees",), (0,))
    assert not plain(question) and plain(replace(question, text="What do I keep?"))
