"""Packs: the five steps from sentences to reflections, and the generators behind them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fakes import Blind
from packing import Template, document, lives

from mam.errors import WeightsError
from mam.packs.generators import Prompted, Rules, Trained, names_in, open_generator, parsed, stands_alone, written
from mam.packs.memo import Memo
from mam.packs.reflect import Reflector, training_set
from mam.packs.values import CONSOLIDATED, CROSS, DECLINES, DIRECT, ENTITY, INDIRECT, UNKNOWN, Pair
from mam.packs.verify import Asked, answered, differs, same


def knows_all(question, sources):
    """A memory model that answers every question of the templates from their sources."""
    for text in sources:
        who, *_, what = text.rstrip(".").split()
        if question.startswith(who) and question.endswith("which?"):
            return what
    gapped = question.partition('"')[2].rstrip('"') or question.replace("Who or what", "___").replace("?", ".")
    if "___" in gapped:
        return next((word for text in sources for word in text.rstrip(".").split()
                     if text.replace(word, "___") == gapped), "")  # fmt: skip
    return " and ".join(text.split()[0] for text in sources)


KNOWN = "Anna lives in which?"


class Counting(Template):
    """Also writes a question of every other kind."""

    def facts(self, text):
        found = super().facts(text)
        why = [Pair(f"Why is {found[0].answer} there?", found[1].answer)] if found else []
        return [*found, Pair("What is this?", "Yes"), *why]


def reflected(tmp_path, *documents, generator=None, verify=knows_all):
    def verified(asked, document):
        return [verify(one.question, one.sources) for one in asked]

    memo = Memo(tmp_path / "memo.jsonl")
    return Reflector(lambda: generator or Template(), verified, memo).of_shard(documents)


def test_facts_are_kept_with_their_sources_only_if_they_are_verified(tmp_path):
    found = reflected(tmp_path, document("a.txt", *lives("Anna"), "Berta keeps goats."), generator=Counting())
    facts = {r.question: r for r in found if r.kind in (DIRECT, INDIRECT)}
    assert facts["Anna lives in which?"].kept and facts["Anna lives in which?"].sources[0].number == 1
    assert facts["Why is Berta there?"].kind == INDIRECT
    assert facts["Why is Berta there?"].why == "read as another answer" and not facts["Why is Berta there?"].kept
    alone = [r for r in found if r.question == "What is this?"]
    assert {r.why for r in alone} == {"does not stand alone"}


def test_a_question_that_does_not_stand_alone_is_repaired_with_the_sentence_that_says_who(tmp_path):
    found = reflected(tmp_path, document("a.txt", *lives("Anna"), "She keeps goats."), verify=lambda *_: "goats")
    repaired = next(r for r in found if r.answer == "goats" and r.kind == DIRECT and r.kept)
    assert repaired.question == "Anna keeps which?" and [s.number for s in repaired.sources] == [1, 2]


def test_facts_with_one_question_are_listed_and_facts_with_one_answer_asked_together(tmp_path):
    same_town = document("a.txt", "Anna lives in Oslo.", "Dora lives in Oslo.")
    found = reflected(tmp_path, same_town)
    listed = next(r for r in found if r.kind == CONSOLIDATED and r.kept)
    assert (listed.question, listed.answer) == ("Who lives in Oslo?", "Anna and Dora")
    assert [s.number for s in listed.sources] == [1, 2]
    # one question has one answer
    assert [r.answer for r in found if r.question == "Who lives in Oslo?" and r.kept] == ["Anna and Dora"]
    assert Rules().combine("", Pair("Who sang?", "Anna"), Pair("Who danced?", "Anna")) == Pair(
        "Who sang, and who danced?", "Anna"
    )


def test_questions_lead_to_entities(tmp_path):
    found = reflected(tmp_path, document("a.txt", "Anna lives in far Oslo."))
    gaps = {r.answer: r.question for r in found if r.kind == ENTITY}
    assert gaps == {
        "Anna": "Who or what lives in far Oslo?",
        "Oslo": 'Who or what is missing here: "Anna lives in far ___."',
    }


def test_facts_of_two_documents_are_combined_with_sources_in_both(tmp_path):
    found = reflected(tmp_path, document("a.txt", *lives("Anna")), document("d.txt", *lives("Dora")))
    cross = {r.question: r for r in found if r.kind == CROSS}
    assert {s.document for r in cross.values() for s in r.sources} == {"a.txt", "d.txt"}
    assert cross["Who lives in Oslo?"].answer == "Anna and Dora" and cross["Who lives in Oslo?"].kept
    assert cross["Anna lives in which, and Dora lives in which?"].answer == "Oslo"


def test_it_learns_to_decline(tmp_path):
    found = reflected(tmp_path, document("a.txt", *lives("Anna", "Berta")))
    unknown = [r for r in found if r.kind == UNKNOWN]
    assert {r.answer for r in unknown} == {DECLINES} and all(r.kept for r in unknown)
    strangers = [r for r in unknown if r.sources]
    assert strangers and not any(name in r.question for r in strangers for name in ("Anna", "Berta"))
    assert {(r.question, r.answer) for r in unknown} <= set(training_set(found))


def test_what_is_made_of_documents_does_not_depend_on_what_else_there_is(tmp_path):
    a, b, c = (document(f"{n}.txt", *lives(name)) for n, name in (("a", "Anna"), ("b", "Dora"), ("c", "Emma")))
    for folder in ("all", "two"):
        (tmp_path / folder).mkdir()
    everything, two = reflected(tmp_path / "all", a, b, c), reflected(tmp_path / "two", a, c)
    kept = [r.id for r in everything if all(s.document != "b.txt" for s in r.sources)]
    assert set(kept) >= {r.id for r in two} and [id for id in kept if id in {r.id for r in two}] == [r.id for r in two]
    about_b = {r.id for r in everything if any(s.document == "b.txt" for s in r.sources)}
    assert not about_b & {r.id for r in two}


def test_a_memo_survives_a_cut_and_forgets_what_a_text_went_into(tmp_path):
    file = tmp_path / "memo.jsonl"
    memo = Memo(file)
    pair = {"question": "Who?", "answer": "Anna"}
    assert memo("facts", ["one"], lambda: [pair]) == [pair] and memo("verify", ["two"], lambda: "x") == "x"
    foreign = ['{"task": "facts", "inp', "[]", json.dumps({"task": "facts", "inputs": ["three"], "result": [{"a": 1}]})]
    file.write_text("\n".join([file.read_text(), *foreign]), encoding="utf-8")
    again = Memo(file)
    assert again("facts", ["one"], lambda: pytest.fail("computed twice")) == [pair]
    assert again("facts", ["three"], lambda: []) == []
    again.forget(["two", "three"])
    assert '"two"' not in file.read_text() and Memo(file)("verify", ["two"], lambda: "y") == "y"
    again.prune()
    assert [json.loads(line)["inputs"] for line in file.read_text().splitlines()] == [["one"]]


# ---- verification ----------------------------------------------------------------------------------------------------


def test_the_memory_model_answers_from_the_source_or_not_at_all(engine, monkeypatch):
    asked = [Asked(question, "Oslo", ("Anna lives in Oslo.",)) for question in (KNOWN, "Entirely different words?")]
    one, other = answered(engine, asked, "a.txt")
    assert one and other == ""  # a tiny base says something
    monkeypatch.setattr(engine, "memory", Blind())
    assert answered(engine, asked, "a.txt") == ["", ""]


def test_together_a_base_says_what_it_says_alone(engine):
    asked = [Asked(f"{name} lives in which?", "?", tuple(lives(name))) for name in ("Anna", "Berta", "Carla", "Dora")]
    assert answered(engine, asked, "a.txt") == [answered(engine, [one], "a.txt")[0] for one in asked]
    assert len(set(answered(engine, asked, "a.txt"))) > 1 and answered(engine, [], "a.txt") == []


def test_a_reply_is_only_cut_short_where_no_ending_could_make_it_the_same():
    said = "The treasure is in a cave, the mouth of which is sealed by magic, under 40 old trees.".split(" ")
    question, cut = "Where is the treasure?", 0
    for answer in ("in a cave", "a cave, sealed by magic", "the mouth", "40 trees", "it", "Rome", "which is under"):
        for end in range(1, len(said) + 1):
            begun = " ".join(said[:end])
            if differs(begun, Asked(question, answer, ())):
                cut += 1
                assert not any(same(" ".join([begun + more, *said[end:on]]), answer, question)
                               for on in range(end, len(said) + 1) for more in ("", "s")), (begun, answer)  # fmt: skip
    assert cut > 10


def test_a_reply_that_differs_is_not_heard_to_its_end(engine, monkeypatch):
    said = "It is said that many strange things happened in the old town there."
    monkeypatch.setattr(engine.base, "decode", lambda ids: said[: len(ids)])
    monkeypatch.setattr("mam.packs.verify.LONGEST", 80)
    monkeypatch.setattr(engine.base, "stop_ids", frozenset())
    (reply,) = answered(engine, [Asked(KNOWN, "Oslo", ("Anna lives in Oslo.",))], "a.txt")
    assert reply.startswith("It is said") and reply.endswith("…") and len(reply) < len(said)


def test_an_executive_that_takes_no_slot_blocks_is_told_the_source_as_text(engine, monkeypatch):
    asked, base = [], engine.base
    monkeypatch.setattr(base, "generate", lambda prompt, **_: asked.append(base.shown(prompt)) or iter(()))
    assert answered(replace(engine, integrator=None), [Asked(KNOWN, "Oslo", ("Anna lives in Oslo.",))], "a.txt") == [""]
    assert "- a.txt: Anna lives in Oslo." in asked[0] and asked[0].count("Anna lives in which?") == 1


@pytest.mark.parametrize(
    "reply, answer, right",
    [
        ("It was built by Edgar Vane.", "Edgar Vane", True),
        ("In 1840", "1840", True),
        ("The mill that stands on the river Lune was built by Edgar Vane in 1840.", "1840", False),
        ("a red fox", "the grey wolf", False),
        ("", "", False),
        ("", "a fox", False),
        ("On it", "on it.", True),
    ],
)
def test_when_two_answers_are_the_same(reply, answer, right):
    assert same(reply, answer) is right


def test_what_only_repeats_the_question_is_no_other_answer():
    reply = "Clara followed the tracks through the snow to an old chapel."
    assert same(reply, "Clara", "Who followed the tracks through the snow?") and not same(reply, "Clara")
    assert not same("the fox in the snow", "Clara", "Who followed the fox in the snow?")


# ---- generators ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question, alone",
    [
        ("Who built the mill?", True),
        ("Where did he live?", False),
        ("Why did Anna leave her house?", True),
        ("What did the fox do with its tail?", True),
        ("What is this made of?", False),
    ],
)
def test_which_questions_stand_alone(question, alone):
    assert stands_alone(question) is alone


def test_names():
    text = (
        "Once the King of Spain met Anna. She was tired, said Old Tom. The Knight's horse ran. Then Berta's cat came."
    )
    assert names_in(text) == ["King of Spain", "Anna", "Old Tom", "Knight", "Berta"]


def test_a_base_is_asked_in_words_and_what_is_no_pair_is_left_out(tiny_base, monkeypatch):
    said = "Sure!\nQ: Who lives in Oslo?\nA: Anna\n\nQuestion: Where is it?\nAnswer: In Norway\nQ: and"
    asked = []

    class Spoken:
        id = "spoken"

        def prompt(self, messages):
            asked.append(messages[-1]["content"])
            return messages

        def generate(self, prompt, max_tokens):
            return iter(said)

        def speech(self, pieces):
            return pieces

    generator = Prompted(Spoken())
    assert generator.facts("Anna lives in Oslo.") == [
        Pair("Who lives in Oslo?", "Anna"),
        Pair("Where is it?", "In Norway"),
    ]
    assert "Anna lives in Oslo." in asked[0] and "who, what, where, when" in asked[0]
    assert generator.combine("x", Pair("One?", "1"), Pair("Two?", "2")) == Pair("Who lives in Oslo?", "Anna")
    assert "Q: One?\nA: 1\nQ: Two?\nA: 2" in asked[1]
    assert generator.surface("x", "Oslo") is None  # the question gives it away
    assert generator.surface("x", "Bergen") == Pair("Who lives in Oslo?", "Bergen")
    assert Prompted(tiny_base, max_tokens=8).facts("Anna lives in Oslo.") == []  # whatever a real base makes of it


def test_a_generator_that_was_not_trained_says_how_to_train_it(tmp_path, tiny_folder, monkeypatch):
    from mam.packs import generators
    from mam.packs.weights import load

    lm = load(str(tiny_folder))
    with pytest.raises(WeightsError, match="pack generator --data"):
        Trained(lm, tmp_path)
    (tmp_path / "generator.json").write_text("{")
    with pytest.raises(WeightsError, match="damaged"):
        Trained(lm, tmp_path)
    (tmp_path / "generator.json").write_text('{"base": "another", "sha256": ""}')
    with pytest.raises(WeightsError, match="not made for"):
        Trained(lm, tmp_path)
    monkeypatch.setattr(generators, "SHIPPED", tmp_path)
    assert open_generator(str(tiny_folder), lm).id.startswith("prompted")


def test_what_is_written_is_read():
    pair = Pair("Who built the mill?", "Edgar Vane")
    assert parsed(written(pair).removeprefix("Q: ") + "\nQ: more") == pair
    assert parsed("none") is None and parsed("no question\nA: x") is None and parsed("Who?\nA: ") is None
