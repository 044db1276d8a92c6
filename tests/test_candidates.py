"""An utterance becomes pieces that can be understood alone, months later."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest
import sentencex
from hypothesis import given
from hypothesis import strategies as st

from mam import candidates
from mam.candidates import split
from mam.dates import resolve

SUNDAY = datetime(2026, 11, 22, 12, 0)


def texts(text, **more):
    return [candidate.text for candidate in split(text, now=SUNDAY, **more)]


@pytest.mark.parametrize(
    "text, pieces",
    [
        ("My dog is called Rex and my sister lives in Oslo.", ["My dog is called Rex", "my sister lives in Oslo."]),
        ("I love tea but I hate coffee", ["I love tea", "I hate coffee"]),
        ("I saw Tom; we ate pizza", ["I saw Tom", "we ate pizza"]),
        ("i work at google. my boss is called ann", ["i work at google.", "my boss is called ann"]),
        ("omg yes!! my cat is ill", ["omg yes!!", "my cat is ill"]),
        ("My sister moved to Bonn 😀 I miss Anna", ["My sister moved to Bonn 😀", "I miss Anna"]),
        ("hi\n- my name is bob\n2. i like tea", ["hi", "my name is bob", "i like tea"]),
        ("Dr. Smith is my dentist at 3 p.m. on weekdays.", ["Dr. Smith is my dentist at 3 p.m. on weekdays."]),
    ],
)
def test_pieces(text, pieces):
    assert texts(text) == pieces


@pytest.mark.parametrize(
    "text",
    [
        "I like tea and coffee and my mother",
        "I think Anna and my sister like tea",
        "When my dog died and I moved to Oslo, I was sad",
        "Tom and Anna went to Rome",
        "My dog is called Rex and he is three years old",
        "What did I say and my sister is who?",
        "I live with my dog and my cat Tom",
    ],
)
def test_when_in_doubt_a_sentence_stays_whole(text):
    assert texts(text) == [text]


@pytest.mark.parametrize("text", ["", "   ", "\n\n", "!!! … 😀", "---"])
def test_nothing_said(text):
    assert texts(text) == []


def test_a_pronoun_keeps_the_sentence_it_points_at():
    assert texts("My brother is Tom. He lives in Oslo. He is a nurse there.") == [
        "My brother is Tom.",
        "My brother is Tom. He lives in Oslo.",
        "My brother is Tom. He is a nurse there.",
    ]
    assert texts("My son's teacher says he is clever. It's raining.")[-1] == "It's raining."
    assert texts("I met Ana. It has been snowing for days.")[-1] == "It has been snowing for days."
    assert texts("We take the boat. It's Mira again.")[-1] == "It's Mira again."
    assert texts("Whales breathe air. At work they gave me a locker.")[-1] == "At work they gave me a locker."
    assert texts("He lives in Oslo", earlier=[("I have a brother called Tom.", SUNDAY)]) == [
        "I have a brother called Tom. He lives in Oslo"
    ]


def test_each_sentence_has_the_dates_of_the_day_it_was_said_on():
    thursday = SUNDAY - timedelta(days=3)
    (candidate,) = split("It is at the station.", now=SUNDAY, earlier=[("I see my dentist tomorrow.", thursday)])
    assert candidate.text == "I see my dentist tomorrow (20 November 2026). It is at the station."
    assert candidate.when == "2026-11-20"
    (candidate,) = split("It is far", now=SUNDAY, earlier=[("I see my dentist tomorrow", thursday)])
    assert candidate.text == "I see my dentist tomorrow (20 November 2026). It is far"
    (candidate,) = split("It ends today.", now=SUNDAY, earlier=[("My course began yesterday.", thursday)])
    assert candidate.text == "My course began yesterday (18 November 2026). It ends today (22 November 2026)."
    assert candidate.when == "2026-11-22"


def test_said_are_the_words_alone():
    candidate = split("My brother is Tom. He lives in Oslo.", now=SUNDAY)[1]
    assert (candidate.said, candidate.context) == ("He lives in Oslo.", "My brother is Tom.")


def test_an_answer_keeps_its_question():
    assert texts("Rex", context="Nice! What is your dog called?") == ["What is your dog called? Rex"]
    assert texts("I like tea", context="What is your dog called?") == ["I like tea"]
    assert texts("Rex", context="Nice dog.") == ["Rex"]


@given(st.text(max_size=300))
def test_spans_point_at_the_words(text):
    found = split(text, now=SUNDAY)
    assert all(text[slice(*candidate.span)] == candidate.said for candidate in found)
    assert all(a.span[1] <= b.span[0] for a, b in zip(found, found[1:], strict=False))


@pytest.mark.parametrize(
    "text, resolved, when",
    [
        ("I leave tomorrow.", "I leave tomorrow (23 November 2026).", "2026-11-23"),
        ("We met last night", "We met last night (21 November 2026)", "2026-11-21"),
        ("See you next Friday.", "See you next Friday (27 November 2026).", "2026-11-27"),
        ("next Sunday", "next Sunday (29 November 2026)", "2026-11-29"),
        ("this Sunday", "this Sunday (22 November 2026)", "2026-11-22"),
        ("last Sunday", "last Sunday (15 November 2026)", "2026-11-15"),
        ("The exam is on Friday.", "The exam is on Friday (27 November 2026).", "2026-11-27"),
        ("We met on Friday.", "We met on Friday (20 November 2026).", "2026-11-20"),
        ("I move next week", "I move next week (week of 23 November 2026)", "2026-11-23"),
        ("I move next month", "I move next month (December 2026)", "2026-12-01"),
        ("I moved last year", "I moved last year (2025)", "2025-01-01"),
        ("Two weeks ago I fell", "Two weeks ago (8 November 2026) I fell", "2026-11-08"),
        ("in 3 days", "in 3 days (25 November 2026)", "2026-11-25"),
        ("The dentist is on 3 March.", "The dentist is on 3 March (3 March 2027).", "2027-03-03"),
        ("I was there on March 3rd", "I was there on March 3rd (3 March 2026)", "2026-03-03"),
        ("I've booked the 14th of May", "I've booked the 14th of May (14 May 2027)", "2027-05-14"),
        ("It is on 3 March 2030.", "It is on 3 March 2030.", "2030-03-03"),
        ("the 29 February", "the 29 February (29 February 2028)", "2028-02-29"),
        ("tomorrow (at last)", "tomorrow (at last)", "2026-11-23"),
    ],
)
def test_dates_are_worked_out(text, resolved, when):
    assert resolve(text, SUNDAY) == (resolved, when)


@pytest.mark.parametrize(
    "text",
    [
        "I may march in the sun now, just a second",
        "They may 2 or 3 times march 4 miles",
        "My birthday is 3 March",
        "I was born on 3 March",
        "I swim every Friday",
        "on Fridays",
        "May is my aunt, April my niece",
        "The second of us got 31 points",
        "in half an hour",
        "31 February",
    ],
)
def test_words_that_are_no_dates(text):
    assert resolve(text, SUNDAY) == (text, None)


def test_the_date_stays_out_of_what_was_said():
    candidate = split("I leave tomorrow.", now=SUNDAY)[0]
    assert (candidate.said, candidate.when) == ("I leave tomorrow.", "2026-11-23")


def test_long_and_odd_texts_are_quick():
    resolve("in two weeks on 3 March", SUNDAY)  # dateparser loads its tables at the first call
    parts = (
        "I like tea and I ",
        "my ",
        "a",
        "He said it there. ",
        "my x-",
        "the next ",
        "'",
        "\n",
        ". ",
        "?!.,;:-('",
        "🐕",
    )
    dates = "3 March, ", "on Friday 3 March ", "in two days ", "every ", "two days ago (really) "
    for text in (*parts, *dates):
        assert_quick((text * 100_000)[:100_000])
    assert_quick("tea" + " " * 100_000 + "and I")
    assert_quick(" ".join(f"{day % 28 + 1} March {1900 + day // 28}, 20{day % 99:02}-11-22" for day in range(4_000)))


def assert_quick(text):
    started = time.perf_counter()
    split(text, now=SUNDAY)
    assert time.perf_counter() - started < 5, text[:40]


@pytest.mark.parametrize(
    "text",
    [
        "My dog is called Rex. He eats Mr. Hill's bananas on 3.5 of 7 days! Really? Yes... \n- tea\n- jam\n\n" * 40,
        "我的狗叫雷克斯。它喜欢香蕉！" * 200,
        "Das ist schön. Ich heiße Jörg. " * 90,
        f"Short. {'x' * 5_000} and more. {'y' * 2_500}",
        "\n\n" * 900 + "My cat. " * 20,
        "word " * 2_000,
    ],
    ids=["prose", "chinese", "german", "unbroken", "lines", "endless"],
)
def test_a_text_in_windows_has_the_sentences_of_the_whole(text, monkeypatch):
    monkeypatch.setattr(candidates, "WINDOW", len(text))
    whole = candidates.sentences(text)
    monkeypatch.setattr(candidates, "WINDOW", 700)
    assert candidates.sentences(text) == whole
    seen, cut = [], sentencex.get_sentence_boundaries
    monkeypatch.setattr(sentencex, "get_sentence_boundaries", lambda *of: seen.append(len(of[1])) or cut(*of))
    candidates.sentences(text)
    assert max(seen) == 700 and sum(seen) < 3 * len(text)


def test_blanks_around_a_clause_are_no_part_of_it():
    found = split("My dog is called Rex   and   my cat is called Tom ; I  like tea.", now=SUNDAY)
    assert [each.said for each in found] == ["My dog is called Rex", "my cat is called Tom", "I  like tea."]


@pytest.mark.parametrize("text", ["See you next frıday.", "It was laſt week.", "THİS YEAR", "3 ſept"])
def test_letters_that_only_look_like_a_day(text):
    assert resolve(text, SUNDAY)[0].startswith(text.rstrip("."))
