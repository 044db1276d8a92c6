"""Scenes of passages: what a memory of documents holds, and what is asked of it that it does not hold."""

from __future__ import annotations

import pytest

from mam.train.data import HELD, QUESTIONS, SECTIONS, SENTENCES, Pool, Scene, passage_scene
from mam.train.sets import Passage, says

COLOURS = "amber beige coral denim ebony flax gold hazel indigo jade".split()


def tale(number: int) -> list[Passage]:
    """Ten sections of two sentences, with a question about each; what one tells, no other does."""
    return [
        Passage(
            (f"Hero {number} came to gate {at}.", f"There he found a {colour} stone, number {number}."),
            ((f"What did hero {number} find at gate {at}?", 1, f"a {colour} stone"),),
            story=f"tale {number}",
        )
        for at, colour in enumerate(COLOURS)
    ]


def shop(number: int) -> Passage:
    """About the same goods as the others with the same last figure."""
    goods = COLOURS[number % 10]
    sentences = [f"Shop {number} sells {goods} lamps.", f"The {goods} lamps of it cost {number} crowns."]
    return Passage(tuple(sentences), ((f"What do lamps of shop {number} cost?", 1, f"{number} crowns"),))


LONG = Passage(
    tuple(f"Line {i} is here." for i in range(50)), tuple((f"Line after {i}?", i, f"Line {i}") for i in range(1, 50))
)
ONE = Passage(("Somebody said something .",), (("Who said something?", 0, "Somebody"),))


@pytest.fixture(scope="module")
def pool() -> Pool:
    stories = [section for number in range(5) for section in tale(number)]
    return Pool([*(shop(number) for number in range(20, 80)), ONE, *stories, LONG])


@pytest.fixture(scope="module")
def scenes(pool) -> list[Scene]:
    return [passage_scene(seed, pool) for seed in range(200)]


def texts(s: Scene) -> list[str]:
    return [x.text for x in s.slots]


def test_a_scene_holds_consecutive_sections_of_one_story_in_order_and_other_passages(scenes, pool):
    counts = set()
    for s in scenes:
        said = texts(s)
        (story,) = [story for story in pool.stories if any(p.sentences[0] in said for p in story)]
        at = [i for i, p in enumerate(story) if p.sentences[0] in said]
        assert at == list(range(at[0], at[0] + len(at)))
        lines = [line for i in at for line in story[i].sentences]
        begin = said.index(lines[0])
        assert said[begin : begin + len(lines)] == lines
        others = [p for p in pool.others if p.sentences[0] in said]
        assert len(at) + len(others) == HELD and not s.personal
        counts.add(len(at))
    assert counts == set(SECTIONS)


def test_what_is_asked_about_a_passage_is_answered_by_its_slot(scenes):
    for s in scenes:
        held = [asked for asked in s.asked if asked.rows]
        assert held and all(says(s.slots[a.rows[0]].text, a.answer) for a in held)
        assert sum(a.text.startswith("Line") for a in held) <= QUESTIONS
        assert sum(text.startswith("Line") for text in texts(s)) in (0, SENTENCES)


def test_nothing_in_memory_answers_what_is_unknown(scenes, pool):
    answers = {question: answer for p in pool.passages for question, _, answer in p.questions}
    for s in scenes:
        unknown = [a for a in s.asked if not a.rows]
        assert len(unknown) == len({a.text for a in unknown}) and {a.type for a in unknown} == {"unknown"}
        assert not any(says(text, answers[a.text]) for a in unknown for text in texts(s))
        assert not {a.text for a in unknown} & {q for p in pool.passages for q, _, _ in p.questions
                                                if p.sentences[0] in texts(s)}  # fmt: skip


def test_the_unknown_is_near_what_is_held(scenes):
    """Two questions about other sections of the story, one about a shop with the same goods as one that is held."""
    goods = 0
    for s in scenes:
        said, unknown = " ".join(texts(s)), [a.text for a in s.asked if not a.rows]
        story = next(word for word in said.partition("Hero ")[2].split())
        assert sum(f"hero {story} " in text for text in unknown) >= 2
        shops = [int(text.split("shop ")[1].split()[0]) for text in unknown if "shop" in text]
        goods += any(f"{COLOURS[number % 10]} lamps" in said for number in shops)
    assert goods > 0.9 * len(scenes)


def test_an_answer_that_is_told_elsewhere_makes_no_unknown_question():
    """Every section of the story ends alike, word for word or nearly; so does the passage beside it."""
    story = [
        Passage((f"Part {i}.", "So the king was glad."), ((f"Who was glad in {i}?", 1, "the king"),), "x")
        for i in range(9)
    ]
    near = [Passage((f"Lamp {i} is lit.", "The King is here."), ((f"Who lit {i}?", 1, "King"),)) for i in range(9)]
    for seed in range(20):
        assert all(asked.rows for asked in passage_scene(seed, Pool([*story, *near])).asked)


def test_what_is_alike_shares_words_and_is_no_single_sentence(pool):
    assert {p.sentences[0].split()[-2] for p in pool.alike(shop(23))[:3]} == {COLOURS[3]}
    assert shop(23) not in pool.alike(shop(23)) and pool.alike(ONE) == []


def test_scenes_are_reproducible_and_a_pool_may_be_small_or_empty(pool):
    assert passage_scene(7, pool) == passage_scene(7, pool) != passage_scene(8, pool)
    assert not Pool() and not Pool(tale(1)) and pool
    small = passage_scene(0, Pool([shop(21), *tale(1)[:1]]))
    assert len(small.slots) == 4 and [a.rows for a in small.asked] == [(1,), (3,)]
