"""Reading whole documents: against the best prompts, with gold that is where the answer is."""

from __future__ import annotations

import pytest
from fakes import Generous, Mute
from published import fill

from mam.bench import common, reading, sets


@pytest.fixture
def folder(tmp_path):
    fill(tmp_path)
    return tmp_path


def test_reading_asks_five_ways(world, folder, monkeypatch):
    monkeypatch.setattr(common, "MAX_TOKENS", 60)
    world.engine.memory = Generous()
    results = reading.run(world, common.Settings(data=folder))
    wiki = results["squadshifts_wiki"]
    assert wiki["questions"] == wiki["documents"] == 1 and wiki["slots"] == 2
    assert wiki["f1"].keys() == set(reading.WAYS)
    assert wiki["f1"]["gold_slot"] == pytest.approx(100 * 2 * (2 / 7) / (1 + 2 / 7), abs=0.01)  # the sentence, echoed
    assert 0 < results["ratio_to_gold"] <= 1 and results["prompts"].keys() == {"gold_prompt", *reading.RETRIEVED}
    assert wiki["stages"]["answered"]["questions"] == 1
    assert results["fairytale_val"]["f1_by_kind"].keys() == {"x"}

    world.engine.memory = Mute()
    mute = reading.run(world, common.Settings(data=folder))
    assert mute["f1_memory"] == 0 and mute["squadshifts_wiki"]["stages"]["not_read"]["questions"] == 1


def test_gold_is_where_the_answer_stands(world, folder):
    (wiki,), (story,) = sets.squad(folder, "wiki"), sets.stories(folder, "val")
    with world.space() as space:
        assert "Edgar Vane" in reading.gold_slot(wiki.questions[0], reading.ingest(space, wiki)).said
        assert reading.gold_slot(wiki.questions[0], []) is None
    with world.space() as space:
        assert "hens" in reading.gold_slot(story.questions[0], reading.ingest(space, story)).said
