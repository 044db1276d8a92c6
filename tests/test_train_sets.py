"""The public data sets of training: their files as they are published, what answers a question, what is held out."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from mam.errors import InputError
from mam.train import sets
from mam.train.sets import Passage, fingerprint, passages, talk

MILL = "The mill on the Lune was sold. It burnt down in 1902. Nobody knows why the mill burnt."
CAFE = "Zoë's café serves crème brûlée. It is “très bon”, says Łukasz. The café opens at 8."
FOX = [
    "The fox lived\nin a den. He ate hens.",
    "One day the fox met a wolf.\n\nThe wolf ate nothing.",
    "He died. The end!",
]


def squad(text: str, question: str, *answers: str | tuple[str, int]) -> dict:
    """A row of SQuADShifts; an answer stands at its first place in the text or from a character on."""
    found = [answer if isinstance(answer, tuple) else (answer, 0) for answer in answers]
    placed = [{"text": answer, "start": text.index(answer, at)} for answer, at in found]
    return {"id": "5d9b75b1", "context": text, "question": question, "answers": placed}


def fairytale(story: str, numbers: str, text: str, question: str, *answers: str) -> dict:
    more = {"kind": "explicit", "attribute": "action"}
    return {
        "story": story,
        "sections": numbers.split(),
        "context": text,
        "question": question,
        "answers": [*answers],
    } | more


def qamr(sentence: str, question: str, answer: str) -> dict:
    return {"sentence": sentence, "question": question, "answer": answer}


LOVES = "I love baking cookies."
COOK = {"persona_1": [LOVES], "persona_2": [], "dialogue": [f"User 1: {LOVES} How are you?"]}
ROWS = {
    "qa_squadshifts_reddit": [
        squad(MILL, " What was sold? ", "The mill on the Lune", "mill"),
        squad(MILL, "What burnt in the end?", ("the mill", 50), "mill", ("the mill", 50)),
        squad(CAFE, "What is served?", "crème brûlée"),
        squad(MILL, "When did it burn?", "1902"),
        squad(MILL, "What was sold?", "The mill on the Lune"),
        squad(MILL, "Who did it?"),
    ],
    "qa_squadshifts_amazon": [squad(CAFE + " ", "Who likes it?", "Łukasz")],
    "qa_qamr_dev": [
        qamr("Dr. Vane , who built it , died in 1900 .", "Who died?", "Dr. Vane"),
        qamr("Dr. Vane , who built it , died in 1900 .", "What did he build?", "the mill"),  # said nowhere
    ],
    "qa_fairytale_train": [
        fairytale("fox", "2", FOX[1], "Who ate nothing?", "the wolf"),
        fairytale("fox", "1", FOX[0], "Where did the fox live?", "in a den", "a den"),
        fairytale("fox", "1 2", f"{FOX[0]}\n{FOX[1]}", "Who ate hens?", "he"),
        fairytale("fox", "1 2", f"{FOX[0]}\n{FOX[1]}", "Whom did the fox meet?", "a wolf"),
        fairytale("fox", "10", "Nothing more is told.", "Why?", "because"),
        fairytale("fox", "3", FOX[2], "How did it end?"),
        fairytale("fox", "9", "Is there more? No.", "Is there more?", ""),
    ],
    sets.DIALOGUES: [COOK] * 10,
}  # fmt: skip


def write(folder: Path, name: str, rows: list) -> Path:
    path = folder / f"{name}.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return path


@pytest.fixture
def folder(tmp_path):
    """The files that are learned from, a few rows each; not those that benchmarks report on."""
    for name, rows in ROWS.items():
        write(tmp_path, name, rows)
    return tmp_path


@pytest.fixture
def nothing_held_out(monkeypatch):
    monkeypatch.setattr(sets, "_held_out", lambda passage: False)


# ---- files as they are published -------------------------------------------------------------------------------------


def test_passages_are_read_as_published(folder, nothing_held_out):
    mill, cafe, again, vane, *fox = passages(folder, "train")
    assert mill == Passage(
        ("The mill on the Lune was sold.", "It burnt down in 1902.", "Nobody knows why the mill burnt."),
        (("What was sold?", 0, "The mill on the Lune"), ("What burnt in the end?", 2, "the mill"),
         ("When did it burn?", 1, "1902")),
    )  # fmt: skip
    assert cafe.sentences[0] == "Zoë's café serves crème brûlée." and cafe.questions == (
        ("What is served?", 0, "crème brûlée"),
    )
    assert again.sentences == cafe.sentences and again.questions == (("Who likes it?", 1, "Łukasz"),)
    assert vane == Passage(("Dr. Vane , who built it , died in 1900 .",), (("Who died?", 0, "Dr. Vane"),))
    assert [p.story for p in fox] == ["fox"] * 5 and [len(p.questions) for p in fox] == [2, 2, 0, 0, 0]
    assert [p.sentences[0] for p in fox] == [
        "The fox lived in a den.",  # in one line, however it was printed
        "One day the fox met a wolf.",
        "He died.",
        "Is there more?",
        "Nothing more is told.",
    ]


def test_quotation_marks_stay_with_their_sentence():
    said = 'He asked: "Who built the mill?" Nobody knew. (Or did "they"?) Well.'
    assert sets.sentences_of(said) == ['He asked: "Who built the mill?"', "Nobody knew.", '(Or did "they"?)', "Well."]
    assert sets.sentences_of(" ") == []


def test_dialogues_are_read_as_published(folder):
    heard = talk(folder, "train")
    assert len(heard) == 9 * 3 and len(talk(folder, "val")) == 3
    assert [(c.text, keep) for c, keep in heard[:3]] == [
        ("I love baking cookies.", True),
        ("I love baking cookies.", True),
        ("How are you?", False),
    ]


def without(row: dict, *path: str | int) -> dict:
    """A copy that lacks what the path leads to."""
    copy = inner = json.loads(json.dumps(row))
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    return copy


SHIFTED = squad(MILL, "When?", "1902")
TALE = fairytale("fox", "1", FOX[0], "Who?", "the fox")


@pytest.mark.parametrize(
    ("name", "row", "field"),
    [
        ("qa_squadshifts_reddit", without(SHIFTED, "question"), "question"),
        ("qa_squadshifts_reddit", without(SHIFTED, "answers"), "answers"),
        ("qa_squadshifts_amazon", without(SHIFTED, "answers", 0, "start"), "start"),
        ("qa_squadshifts_amazon", SHIFTED | {"answers": ["1902"]}, "start"),
        ("qa_squadshifts_amazon", SHIFTED | {"answers": [{"text": "1902", "start": 3}]}, "answers"),
        ("qa_squadshifts_amazon", SHIFTED | {"context": [MILL]}, "context"),
        ("qa_qamr_dev", {"question": "Who?", "answer": "Vane"}, "sentence"),
        ("qa_qamr_dev", {"sentence": "Vane died.", "answer": "Vane"}, "question"),
        ("qa_fairytale_train", without(TALE, "story"), "story"),
        ("qa_fairytale_train", without(TALE, "sections"), "sections"),
        ("qa_fairytale_train", TALE | {"sections": ["one"]}, "sections"),
        ("qa_fairytale_train", TALE | {"answers": [{"text": "the fox"}]}, "answers"),
        ("qa_fairytale_train", ["no", "row"], "story"),
        (sets.DIALOGUES, without(COOK, "persona_1"), "persona_1"),
        (sets.DIALOGUES, COOK | {"persona_2": [1]}, "persona_2"),
        (sets.DIALOGUES, without(COOK, "dialogue"), "dialogue"),
    ],
)
def test_a_row_that_lacks_something_is_named_with_its_file_line_and_field(folder, name, row, field):
    path = write(folder, name, [ROWS[name][0], row])
    with pytest.raises(InputError, match=re.escape(str(path)) + f', line 2, .*"{field}"') as error:
        passages(folder, "train"), talk(folder, "val")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ROWS)
def test_a_missing_or_damaged_file_is_named(folder, name):
    path = folder / f"{name}.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=f"{name}.jsonl.gz is damaged"):
        passages(folder, "val"), talk(folder, "val")
    path.unlink()
    for read in (lambda: (passages(folder, "val"), talk(folder, "val")), lambda: fingerprint(folder)):
        with pytest.raises(InputError, match=f"{name}.jsonl.gz is missing; --data"):
            read()


def test_a_file_without_questions_is_named(folder):
    unanswered = {"sentence": "Ada sings.", "question": "Who dances?", "answer": "Ben"}
    for rows, problem in (([], "holds nothing"), ([unanswered], "holds no questions")):
        write(folder, "qa_qamr_dev", rows)
        with pytest.raises(InputError, match=f"qa_qamr_dev.jsonl.gz {problem}"):
            passages(folder, "train")


# ---- which sentence answers ------------------------------------------------------------------------------------------


def moved(found: list[Passage]) -> int:
    """Questions that not the first sentence with the letters of the answer is said to answer."""
    return sum(
        any(answer.lower() in sentence.lower() for sentence in passage.sentences[:i])
        for passage in found
        for _, i, answer in passage.questions
    )


def test_the_sentence_at_the_place_of_the_answer_is_the_one(folder, nothing_held_out):
    write(folder, "qa_squadshifts_reddit", [squad(MILL, "What burnt?", ("mill", 40)), squad(MILL, "What?", "mill")])
    (passage,) = [p for p in passages(folder, "train") if p.sentences[0].startswith("The mill")]
    assert [i for _, i, _ in passage.questions] == [2, 0] and moved([passage]) == 1


def test_most_annotators_decide_where_and_what_the_answer_is(tmp_path):
    late = MILL.index("the mill burnt")
    rows = [squad(MILL, "What burnt?", "mill", ("the mill", late), ("the mill", late), ("the mill burnt", late))]
    (passage,) = sets._squadshifts(write(tmp_path, "x", rows))
    assert passage.questions == (("What burnt?", 2, "the mill"),)


def test_what_spans_two_sentences_answers_nothing(tmp_path):
    rows = [squad(MILL, "What happened?", "was sold. It burnt"), squad(MILL, "When?", "in 1902")]
    (passage,) = sets._squadshifts(write(tmp_path, "x", rows))
    assert passage.questions == (("When?", 1, "in 1902"),)


def test_without_a_place_the_sentence_that_shares_rare_words_with_the_question_answers(tmp_path):
    """The words of every other section are common; part of a word is no answer."""
    text = "The king saw a bird. The king said the king was old. Then the hunter shot: the king wept. A kingdom fell."
    rows = [
        fairytale("king", "1", text, "Who wept when the hunter shot?", "the king"),
        fairytale("king", "1", text, "Who saw the bird?", "The king"),
        fairytale("king", "1", text, "What fell?", "dom"),
        fairytale("king", "1 2", text, "What did the king see?", "a bird"),
        fairytale("king", "2", "A bird sang. The king did see a bird die.", "What sang?", "A bird"),
    ]
    first, second = sets._fairytale(write(tmp_path, "x", rows))
    assert [(q, i) for q, i, _ in first.questions] == [("Who wept when the hunter shot?", 2), ("Who saw the bird?", 0)]
    assert [(q, i) for q, i, _ in second.questions] == [("What did the king see?", 1), ("What sang?", 0)]
    assert moved([first, second]) == 2


# ---- what is held out ------------------------------------------------------------------------------------------------

NUMBERS = "nought one two three four five six seven eight nine".split()


def spelled(number: int) -> str:
    return " ".join(NUMBERS[int(digit)] for digit in f"{number:03}")


@pytest.fixture
def many(folder):
    """400 passages each of SQuADShifts and QAMR, 200 stories of three sections."""
    texts = [f"House {spelled(i)} is red. Its door is {spelled(i)} feet high." for i in range(400)]
    write(folder, "qa_squadshifts_reddit", [squad(text, "What is red?", text[: text.index(" is")]) for text in texts])
    write(folder, "qa_qamr_dev", [qamr(f"Boat {spelled(i)} sank .", "What sank?", "Boat") for i in range(400)])
    tales = [
        fairytale(f"tale {spelled(i)}", str(number), f"Fox {number} ate.", "Who?", f"Fox {number}")
        for i in range(200)
        for number in (1, 2, 3)
    ]
    write(folder, "qa_fairytale_train", tales)
    return folder


def test_about_one_passage_in_twenty_is_held_out_and_stories_are_whole(many):
    learned, held_out = passages(many, "train"), passages(many, "val")
    sides = [{p.whole for p in found} for found in (learned, held_out)]
    assert not sides[0] & sides[1] and sides == [{p.whole for p in passages(many, split)} for split in ("train", "val")]
    for of, count in (("House", 400), ("Boat", 400), ("tale", 200)):
        there = [len({x for x in side if x.startswith(of)}) for side in sides]
        assert sum(there) == count and 0.02 < there[1] / count < 0.09
    assert all(len([p for p in found if p.story == story]) == 3 for found in (learned, held_out)
               for story in {p.story for p in found if p.story.startswith("tale")})  # fmt: skip


def test_a_passage_is_on_one_side_however_it_is_written(many):
    """The same words in capitals, with other blanks and signs."""
    house = next(p.whole for p in passages(many, "val") if p.whole.startswith("House"))
    other = house.upper().replace(" ", "  ").replace(".", "!")
    write(many, "qa_squadshifts_amazon", [squad(other, "What is red?", "HOUSE")])
    assert sets.sentences_of(other) and any(p.whole.startswith("HOUSE") for p in passages(many, "val"))
    assert not any(p.whole.startswith("HOUSE") for p in passages(many, "train"))


def test_what_says_much_of_a_held_out_passage_again_is_not_learned_from(many):
    house = next(p.whole for p in passages(many, "val") if p.whole.startswith("House"))
    copies = [f"Repost {n}! {house} What do you think?" for n in range(40)]
    write(many, "qa_squadshifts_amazon", [squad(text, "What is red?", "House") for text in copies])
    tale = (
        fairytale("retold", "1", f"Once: {house}", "What?", "House"),
        fairytale("retold", "2", "It fell.", "What?", "It"),
    )
    write(many, "qa_fairytale_train", list(tale))
    assert not any(p.whole.startswith("Repost") or p.story == "retold" for p in passages(many, "train"))
    assert not all(p.whole.startswith("Repost") for p in passages(many, "val"))


def test_what_benchmarks_report_on_is_no_part_of_training(folder):
    """Neither needed nor read: any bytes there leave all as it is."""
    before = fingerprint(folder), passages(folder, "train"), passages(folder, "val")
    for name in ("qa_squadshifts_wiki", "qa_fairytale_val", "stories_fairytale_val"):
        (folder / f"{name}.jsonl.gz").write_bytes(b"never opened")
    assert before == (fingerprint(folder), passages(folder, "train"), passages(folder, "val"))


def test_the_public_data_is_known_by_its_bytes(folder):
    found = fingerprint(folder)
    assert found == fingerprint(folder) != fingerprint(None)
    for name in ROWS:
        write(folder, name, [*ROWS[name], ROWS[name][0]])
        assert fingerprint(folder) != found
        found = fingerprint(folder)
