"""The published metrics give what their authors' code gives, on cases worked out by hand."""

from __future__ import annotations

import pytest

from mam.bench import metrics


@pytest.mark.parametrize(
    "reply, answer, f1, exact",
    [
        ("the Edgar Vane", "Edgar Vane.", 1.0, 1.0),
        ("Edgar Vane built it", "Edgar Vane", 2 * 0.5 * 1 / 1.5, 0.0),  # 2 of 4 said, 2 of 2 wanted
        ("a dog, a dog", "dog", 2 * 0.5 * 1 / 1.5, 0.0),  # multisets: the second "dog" is too many
        ("U.S.A.", "usa", 1.0, 1.0),
        ("anthem", "an them", 0.0, 0.0),  # articles only as whole words
        ("and so", "so", 2 * 0.5 * 1 / 1.5, 0.0),  # "and" is no article here
        ("cats", "cat", 0.0, 0.0),  # no stems
        ("", "", 0.0, 1.0),
        ("the", "a", 0.0, 1.0),
        ("caf\u00e9 \u2019s", "caf\u00e9 s", 0.5, 0.0),  # only ASCII punctuation is dropped
    ],
)
def test_squad(reply, answer, f1, exact):
    assert metrics.f1(reply, answer) == pytest.approx(f1)
    assert metrics.exact(reply, answer) == exact


def test_the_answer_that_fits_best_counts():
    assert metrics.best(metrics.f1, "two delegates", ("Each elects two delegates", "two delegates")) == 1
    assert metrics.best(metrics.exact, "two", ("2", "Two")) == 1
    assert metrics.best(metrics.f1, "two", ()) == 0


@pytest.mark.parametrize(
    "category, reply, answer, score",
    [
        (4, "adoption agencies", "Adoption agency", 1.0),  # stems
        (4, "She is running and swimming", "run, swim", 2 * 0.5 * 1 / 1.5),  # "and" dropped: 2 of 4, 2 of 2
        (2, "7 May, 2023", "7 May 2023", 1.0),
        (2, "in May 2023", "7 May 2023", 2 / 3),
        (2, "2022", "2022", 1.0),
        (1, "chess, rowing", "rowing, chess", 1.0),
        (1, "chess", "rowing, chess", 0.5),  # mean over the answers
        (1, "chess and rowing", "rowing, chess", 2 / 3),  # one part said: 1 of 2 for either
        (1, "chess, the piano", "piano lessons, chess, tea", (2 / 3 + 1 + 0) / 3),
        (3, "Likely no", "Likely no; she says she likes it", 1.0),  # cut at the semicolon
        (4, "Likely no", "Likely no; she says", 2 * 1 * 0.5 / 1.5),  # but only there
        (4, "", "something", 0.0),
        (5, "It is not mentioned in the text.", "", 1.0),
        (5, "No information available", "", 1.0),
        (5, "You haven't told me that.", "", 0.0),  # not in LoCoMo's words; see `locomo._row`
        (5, "self-care", "", 0.0),
    ],
)
def test_locomo(category, reply, answer, score):
    assert metrics.locomo(category, reply, answer) == pytest.approx(score)


def test_locomo_knows_five_categories():
    with pytest.raises(ValueError, match="category 6"):
        metrics.locomo(6, "a", "b")


def test_the_stems_are_those_of_nltk():
    """Its variant of Porter's algorithm differs from the original: "dying" is "die", "skies" is "sky"."""
    assert metrics.locomo_f1("dying", "die") == metrics.locomo_f1("skies", "sky") == 1
    assert metrics.locomo_f1("enjoyed", "enjoys") == 1


def test_recall_counts_shares_of_what_was_needed():
    ranks = [[0, 4], [None], [9, 60], []]  # the last needs nothing and is not counted
    assert metrics.recall_at(ranks, 1) == pytest.approx(100 * (0.5 + 0 + 0) / 3, abs=0.01)
    assert metrics.recall_at(ranks, 5) == pytest.approx(100 * (1 + 0 + 0) / 3, abs=0.01)
    assert metrics.recall_at(ranks, 10) == pytest.approx(100 * (1 + 0 + 0.5) / 3, abs=0.01)
    assert metrics.recall_at([[]], 10) is None


def test_losses_add_up():
    rows = [
        {"score": 1.0, "stage": "answered", "gold_prompt": None},
        {"score": 0.25, "stage": "answered", "gold_prompt": 0.5},
        {"score": 0.0, "stage": "not_read", "gold_prompt": 1.0},
        {"score": 0.5, "stage": "not_kept", "gold_prompt": None},
    ]
    found = metrics.losses(rows, ("not_kept", "not_read", "answered"))
    assert found["lost"] == {"not_kept": 12.5, "not_read": 25.0, "integrating": 6.25, "base": 12.5}
    assert sum(found["lost"].values()) + metrics.percent(row["score"] for row in rows) == pytest.approx(100, abs=0.02)
    assert found["stages"]["answered"] == {"questions": 2, "score": 62.5}
    worse = [{"score": 0.5, "stage": "answered", "gold_prompt": 0.25}]  # from a prompt: the base is not to blame for it
    assert metrics.losses(worse, ("answered",))["lost"] == {"integrating": 0.0, "base": 50.0}
    assert metrics.losses([], ("not_kept", "answered"))["stages"]["answered"] == {"questions": 0, "score": None}


def test_words_hold_answers_as_a_whole():
    assert metrics.holds("The mill, built by Edgar Vane.", ["edgar vane"])
    assert not metrics.holds("Edgar Vanezuela", ["Edgar Vane", "the"])
