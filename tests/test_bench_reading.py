"""Reading whole documents: against the best prompts, with gold that is where the answer is."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import Generous, Mute, RuleMemory
from published import fill

from mam.bench import baselines, common, gold, metrics, prompts, reading, search, sets
from mam.bench.passages import Passages
from mam.bench.prompts import Choice
from mam.store import new_id
from mam.values import Slot

TEXT = "Anna has a dog. She is a nurse.\n\nThe mill is old. It was built by Edgar. Nobody lives there.\n"


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path)
    return tmp_path


def document(*questions, text=TEXT):
    return sets.Document("mill", text, questions)


def asked(text="Who?", answers=("Edgar",), at=None, within=(0, 100)):
    return sets.Question(text, answers, "explicit", within, at)


def slots_of(world, document):
    with world.space() as space:
        return reading.ingest(space, document)


# ---- the whole -------------------------------------------------------------------------------------------------------


def test_reading_asks_six_ways(world, folder, monkeypatch):
    monkeypatch.setattr(common, "MAX_TOKENS", 60)
    world.engine.memory = Generous()
    results = reading.run(world, common.Settings(data=folder))
    wiki = results["squadshifts_wiki"]
    assert wiki["questions"] == wiki["documents"] == 1 and wiki["slots"] == 2
    assert wiki["f1"].keys() == set(reading.WAYS) >= {"prompt_bm25", "prompt_minilm", "prompt_sum"}
    assert wiki["f1"]["gold_slot"] == pytest.approx(100 * 2 * (2 / 7) / (1 + 2 / 7), abs=0.01)  # the sentence, echoed
    assert 0 < results["ratio_to_gold"] <= 1 and results["prompts"].keys() == {"gold_prompt", *reading.RETRIEVED}
    assert wiki["stages"]["answered"]["questions"] == 1
    kinds = results["fairytale_val"]["by_kind"]
    assert kinds.keys() == {"x"} and kinds["x"]["questions"] == 1 and kinds["x"]["f1"].keys() == set(reading.WAYS)
    assert sum(kinds["x"]["lost"].values()) + kinds["x"]["f1"]["memory"] == pytest.approx(100, abs=0.05)

    world.engine.memory = Mute()
    mute = reading.run(world, common.Settings(data=folder))
    assert mute["f1_memory"] == 0 and mute["squadshifts_wiki"]["stages"]["not_read"]["questions"] == 1


def test_memory_is_compared_with_the_best_of_three_prompts():
    f1 = {way: 10.0 for way in reading.WAYS} | {"memory": 30.0, "prompt_sum": 20.0, "gold_slot": 60.0}
    assert reading._ratios(f1) == {"ratio_to_prompt": 1.5, "ratio_to_gold": 0.5}


def test_an_interrupted_search_does_not_try_a_prompt_twice(world, folder, tmp_path, monkeypatch):
    settings, tried = common.Settings(data=folder, json=tmp_path / "reading.json"), []

    def prompted(world, way, choice, *_):
        if len(tried) == 40:  # of the training documents: two for each prompt
            tried.append(None)
            raise KeyboardInterrupt
        tried.append(f"{way} {choice}")
        return ["Edgar Vane"]

    monkeypatch.setattr(reading, "prompted", prompted)
    with pytest.raises(KeyboardInterrupt):
        reading.run(world, settings)
    results = reading.run(world, settings)
    prompts_tried = sum(map(len, results["prompts_tried"].values()))
    assert len(tried) == 1 + 2 * prompts_tried + 2 * 4  # and the four ways that prompt, in two documents
    assert prompts_tried <= 36


# ---- the best prompts ------------------------------------------------------------------------------------------------


def test_every_property_is_searched_from_the_best_so_far():
    wanted, tried = Choice("text_before", 5, source="text", unit=3), []

    def score(way, choice):  # one point for everything that is right; which order makes no difference
        tried.append(choice)
        return float(
            sum(getattr(choice, name) == getattr(wanted, name) for name in ("form", "notes", "source", "unit"))
        )

    found = search.Search(score)
    best = found.best("prompt_bm25", Choice("copying", 3), *search.retrieval(["copying", "text_before"]))
    assert best == replace(wanted, score=4.0)
    assert len(tried) == len({str(choice) for choice in tried}) == 1 + 1 + 1 + 1 + 3 + 1
    assert found.tried["prompt_bm25"][str(best)] == 4.0 and found.forms("prompt_bm25", 1) == ["text_before"]


def test_a_chunk_is_compared_with_as_many_sentences():
    """Three chunks beside three sentences would be three times the text, and lose for that alone."""
    found = search.Search(lambda way, choice: -abs((choice.notes or 1) * choice.unit - 3) + (choice.unit == 3))
    assert (
        str(found.best("x", Choice("f", 3), *search.retrieval(["f"]))) == "f, 1 notes, best first, 3 sentences a note"
    )


def test_one_note_has_no_order():
    found = search.Search(lambda way, choice: float(choice.notes == 1))
    assert found.best("x", Choice("f", 3), *search.retrieval(["f"])).notes == 1
    assert not any("last" in name for name in found.tried["x"])


def test_prompts_that_differ_are_told_apart():
    """By what stands in the results; and what was chosen before there was more to choose stays as it was."""
    choices = [
        Choice("f", notes, last, source=source, unit=unit)
        for notes in (None, 1) for last in (False, True) for source in search.SOURCES for unit in (1, 3)
    ]  # fmt: skip
    assert len({str(choice) for choice in choices if choice.notes or not choice.best_last}) == 12
    assert str(prompts.CHOSEN["prompt_bm25"]) == "in_user, 3 notes, best first"
    assert str(Choice("f", 3, source="text", unit=3)) == "f, 3 notes, best first, as slots have it, 3 sentences a note"


def test_all_that_is_searched_is_tried_in_all_three_ways():
    choices, tried = reading.chosen(lambda way, choice: 0.0)
    assert choices.keys() == tried.keys() == {"gold_prompt", *reading.RETRIEVED}
    assert sum(map(len, tried.values())) <= 36
    for way in tried:
        for word in ("as slots have it", "3 sentences a note"):
            assert any(word in name for name in tried[way]), (way, word)
    for way in reading.RETRIEVED:
        for word in ("best last", *(f" {count} notes" for count in search.COUNTS)):
            assert any(word in name for name in tried[way]), (way, word)
    assert {name.split(",")[0] for name in tried["prompt_bm25"]} == set(prompts.READING)
    tuned, _ = reading.chosen(lambda way, choice: float(choice.source == "text") + (choice.unit == 3))
    assert all((choice.source, choice.unit) == ("text", 3) for choice in tuned.values())


def test_the_sum_of_both_retrieves():
    class Fixed:
        def encode(self, texts):
            return np.eye(3, dtype=np.float32)[: len(texts)]

    texts = ["the dog barks", "a cat and a dog and a dog", "nothing of it"]
    assert baselines.retrieved("prompt_sum", texts, ["Which dog?"], Fixed(), 2)[0][0] == 0
    for way in reading.RETRIEVED:
        assert len(baselines.retrieved(way, texts, ["the?"], Fixed(), 3)[0]) == 3  # no word to look for
        assert baselines.retrieved(way, [], ["Which dog?"], Fixed(), 3) == [[]]


# ---- what stands in a prompt -----------------------------------------------------------------------------------------


def passages(world, *questions, minilm=None):
    one = document(*questions)
    return Passages(one, slots_of(world, one), minilm)


def test_chunks_are_the_whole_text_in_its_order(world):
    notes = passages(world)
    said = notes.chunks(Choice("f", 3, unit=3))
    assert said == ["Anna has a dog. She is a nurse. The mill is old.", "It was built by Edgar. Nobody lives there."]
    assert " ".join(notes.chunks(Choice("f", 3))) == " ".join(TEXT.split())
    kept = notes.chunks(Choice("f", 3, source="text"))
    assert len(kept) == 5 and kept != notes.chunks(Choice("f", 3))  # "She" and "It" say who and what is meant
    assert " ".join(notes.chunks(Choice("f", 3, source="text", unit=3))) == " ".join(kept)


def test_a_clause_of_its_own_loses_nothing_between_two_chunks(world):
    text = "My brother lives in Oslo, and my sister works in Rome. Nobody knows."
    one = document(text=text)
    slots = slots_of(world, one)
    assert len(slots) == 3  # the two clauses, which a prompt gets as the one sentence that they are
    notes = Passages(one, slots, None)
    assert notes.chunks(Choice("f", 1)) == ["My brother lives in Oslo, and my sister works in Rome.", "Nobody knows."]
    assert notes.around([text.index("sister")], Choice("f")) == notes.chunks(Choice("f"))[:1]


@pytest.mark.parametrize("source", search.SOURCES)
def test_gold_is_in_its_prompt_with_neighbours_and_without(world, source):
    notes, at = passages(world), TEXT.index("Edgar")
    (alone,) = notes.around([at], Choice("f", source=source))
    (among,) = notes.around([at], Choice("f", source=source, unit=3))
    assert "Edgar" in alone and "Nobody" not in alone
    assert among.index("The mill is old.") < among.index("Edgar") < among.index("Nobody lives there.")
    assert "nurse" not in among


def test_gold_at_several_places_is_in_the_order_of_the_text(world):
    notes, places = passages(world), [TEXT.index("Nobody"), TEXT.index("Anna")]
    assert notes.around(places, Choice("f")) == ["Anna has a dog.", "Nobody lives there."]
    assert notes.around(places, Choice("f", unit=3)) == [
        "Anna has a dog. She is a nurse.",
        "It was built by Edgar. Nobody lives there.",
    ]
    assert notes.around([*places, TEXT.index("mill")], Choice("f", unit=3)) == [" ".join(TEXT.split())]
    assert notes.around([], Choice("f")) == []


@pytest.mark.parametrize("way", reading.RETRIEVED)
def test_what_is_retrieved_stands_as_it_was_chosen(world, way):
    notes = passages(world, asked("Who built the mill?"), asked("Whose dog?"), minilm=RuleMemory())
    for choice in (Choice("f", 2), Choice("f", 2, source="text"), Choice("f", 2, unit=3)):
        first, last = (notes.found(way, replace(choice, best_last=order)) for order in search.ORDERS)
        assert [given[::-1] for given in first] == last and all(len(given) == 2 for given in first)
        assert set(sum(first, [])) <= set(notes.chunks(choice))
    (mill, _) = notes.found(way, Choice("f", 8))
    assert len(mill) == 5 and "mill" in " ".join(mill[:2])  # no more than there is


def test_a_prompt_too_long_loses_what_is_least_relevant(tiny_base):
    notes = [f"note number {i} of them" for i in range(60)]
    for best_first, kept, lost in ((True, 0, 59), (False, 59, 0)):
        ids = baselines.cut(tiny_base, prompts.text_before(notes, "Who?"), 480, best_first)
        text = tiny_base.decode(ids)
        assert f"number {kept} of" in text and f"number {lost} of" not in text and "Question: Who?" in text


def test_prompts_are_cut_where_they_are_least_relevant(world, monkeypatch):
    how = []
    monkeypatch.setattr(baselines, "answers", lambda *_, best_first: how.append(best_first) or [""])
    one = document(asked())
    notes = Passages(one, slots_of(world, one), RuleMemory())
    for order in search.ORDERS:
        reading.prompted(world, "prompt_bm25", Choice("text_before", 3, order), one, notes, [[]])
    assert how == [True, False]


# ---- gold ------------------------------------------------------------------------------------------------------------


def test_gold_is_where_the_answer_stands(world, folder):
    (wiki,), (story,) = sets.squad(folder, "wiki"), sets.stories(folder, "val")
    (right,) = reading.gold_slots(wiki.questions[0], slots_of(world, wiki))
    assert "Edgar Vane" in right.said and reading.gold_slots(wiki.questions[0], []) == []
    assert reading.places(wiki.questions[0], []) == [wiki.questions[0].at]
    (right,) = reading.gold_slots(story.questions[0], slots_of(world, story))
    assert "hens" in right.said


def told(*texts, said=()):
    """Slots one after the other, each ten characters."""
    said = [*said, *texts[len(said) :]]
    return [Slot(new_id(), text, said[i], "story.txt", None, span=(10 * i, 10 * i + 9)) for i, text in enumerate(texts)]


def test_gold_of_a_story_is_every_slot_that_says_the_answer():
    slots = told(
        "The king rode out.", "A fox met the king.", "It rained.", "The fox asked the king for bread.", "King."
    )
    question = asked("Whom did the fox ask for bread?", ("the king",), within=(0, 39))
    right = reading.gold_slots(question, slots)
    assert [slot.text for slot in right] == [slots[3].text, slots[1].text, slots[0].text]  # the last is elsewhere
    assert reading.places(question, right) == [30, 10]  # no more than the best two are handed over
    for slot in slots:
        turn = SimpleNamespace(
            reads=[SimpleNamespace(slot=slot, given=True), SimpleNamespace(slot=slots[0], given=False)]
        )
        assert reading.stage(turn, right) == ("answered" if slot in right else "not_read")
    assert reading.stage(turn, []) == "not_kept"


def test_gold_of_an_implicit_answer_is_the_likeliest_sentence():
    slots = told("The hens slept.", "He was afraid of being seen by the dog.", "A fox came.")
    (right,) = reading.gold_slots(asked("Why did the fox hide?", ("because of fear of the big dog",)), slots)
    assert right is slots[1]
    assert reading.gold_slots(asked(within=(500, 600)), slots) == []


def test_the_sentence_that_says_it_itself_comes_first():
    """Not the one that only carries it along, whose own words do not answer in a prompt."""
    slots = told(
        "Edgar built a mill. It is big and he built it.", "Edgar sold it.", said=("It is big and he built it.",)
    )
    right = reading.gold_slots(asked("Who is big and built it?"), slots)
    assert right == [slots[1], slots[0]]


def test_gold_slots_are_given_at_equal_weights(world, monkeypatch):
    prepare, given = world.engine.integrator.prepare, []
    monkeypatch.setattr(world.engine.integrator, "prepare", lambda reads: given.extend(reads) or prepare(reads))
    slots = told("Anna has a dog.", "The mill is old.")
    assert gold.from_slots(world, slots, "Who?") == "Anna has a dog. The mill is old."
    assert [(read.slot, read.weight, read.given) for read in given] == [(slot, 0.5, True) for slot in slots]
    assert gold.from_slots(world, [], "Who?") == "I see."


def test_what_the_base_can_do_is_the_better_of_prompt_and_slots(world, monkeypatch):
    replies = iter([["Anna"], ["A dog."]])
    monkeypatch.setattr(baselines, "answers", lambda *_: next(replies))
    slots, rows = told("Anna has a dog."), [{"question": "Who?", "score": 0.0}, {"question": "Who?", "score": 1.0}]

    def score(row, reply):
        return {"Anna has a dog.": 0.75, "Anna": 0.5, "A dog.": 1.0}[reply]

    missing, full = gold.with_gold(world, rows, [slots, slots], score)
    assert missing["gold_prompt"] == 0.5 and missing["gold_slots"] == 0.75
    assert full["gold_prompt"] is full["gold_slots"] is None  # nothing is missing there
    (other,) = gold.with_gold(world, rows[:1], [slots], score)
    assert other["gold_prompt"] == 1 > other["gold_slots"]
    found = metrics.losses([row | {"stage": "answered"} for row in (missing, other)], ("answered",))
    assert found["lost"] == {"integrating": 100 * (0.75 + 1) / 2, "base": 100 * 0.25 / 2}


def test_without_anything_that_answers_the_base_is_not_asked(world, monkeypatch):
    monkeypatch.setattr(baselines, "answers", lambda base, lists, most: [] if not lists else pytest.fail("asked"))
    (nothing,) = gold.with_gold(world, [{"question": "Who?", "score": 0.0}], [[]], lambda *_: 1.0)
    assert nothing["gold_prompt"] is nothing["gold_slots"] is None
