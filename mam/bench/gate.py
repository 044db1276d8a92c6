"""gate: of what is said, does the write gate keep the right sentences?

Held-out talk goes through the same splitting and gate as an ordinary turn, without a store. A sentence counts as
kept if a kept candidate covers it. LoCoMo (`--data`) has no labels of what is worth keeping; there the figure is how
well the gate's score separates turns that some question needs from all other turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from tqdm import tqdm

from mam.bench import common, sets
from mam.bench.scoring import auc, f1, share
from mam.candidates import split
from mam.lives import Life, Sentence, Utterance
from mam.model import MemoryModel
from mam.values import USER, Candidate


def judged(memory: MemoryModel, candidates: list[Candidate], batch: int = 256) -> list[float]:
    """Probability of keeping each candidate, 0..1; contexts are encoded once however often they occur."""
    contexts = list(dict.fromkeys(candidate.context for candidate in candidates))
    row = {context: i for i, context in enumerate(contexts)}
    context_hidden = memory.encode(contexts)
    scores: list[float] = []
    for start in range(0, len(candidates), batch):
        part = candidates[start : start + batch]
        hidden = memory.encode([candidate.text for candidate in part])
        scores += memory.gate(part, hidden, context_hidden[[row[candidate.context] for candidate in part]])
    return scores


def spans(utterance: Utterance) -> list[tuple[Sentence, int, int]]:
    """Where each labelled sentence stands in the utterance's text."""
    found, start = [], 0
    for sentence in utterance.sentences:
        start = utterance.text.index(sentence.text, start)
        found.append((sentence, start, start + len(sentence.text)))
        start += len(sentence.text)
    return found


def covers(candidate: Candidate, start: int, end: int) -> bool:
    """Whether the words the candidate was made of take up more than half of the shorter of the two."""
    first, last = candidate.span
    shared = min(last, end) - max(first, start)
    return shared > 0.5 * min(last - first, end - start)


def talk(life: Life) -> Iterator[tuple[Utterance, list[Candidate]]]:
    """Every utterance with its candidates, split with the context that `mam.chat` would give them."""
    for session in life.sessions:
        said: list[tuple[Utterance, datetime]] = []
        for number, utterance in enumerate(session.utterances):
            mine = utterance.speaker == USER
            earlier = [(before.text, at) for before, at in said[-3:] if before.speaker == USER] if mine else ()
            context = said[-1][0].text if said else ""
            at = session.started + timedelta(minutes=number)
            yield utterance, split(utterance.text, speaker=utterance.speaker, now=at, context=context, earlier=earlier)
            said.append((utterance, at))


def sentences(memory: MemoryModel, life: Life) -> Iterator[tuple[str, Sentence, bool]]:
    """(speaker, labelled sentence, whether it would be written)."""
    pairs = list(talk(life))
    scores = iter(judged(memory, [candidate for _, candidates in pairs for candidate in candidates]))
    for utterance, candidates in pairs:
        kept = [candidate for candidate in candidates if next(scores) >= memory.gate_threshold]
        for sentence, start, end in spans(utterance):
            yield utterance.speaker, sentence, any(covers(candidate, start, end) for candidate in kept)


def held_out(world: common.World, settings: common.Settings) -> dict:
    counts: Counter[str] = Counter()
    kinds: dict[str, list[bool]] = {}
    for life in common.lives(settings, "gate"):
        for speaker, sentence, kept in sentences(world.memory, life):
            outcome = ("hit" if kept else "miss") if sentence.keep else ("false_alarm" if kept else "rejected")
            counts[outcome] += 1
            label = "keep" if sentence.keep else "reject"
            kinds.setdefault(f"{label}: {sentence.kind} ({speaker})", []).append(kept == sentence.keep)
    return {
        **f1(counts["hit"], counts["false_alarm"], counts["miss"]),
        "counts": {name: counts[name] for name in ("hit", "miss", "false_alarm", "rejected")},
        "right_by_kind": {kind: share(right) for kind, right in sorted(kinds.items())},
        "threshold": round(float(world.memory.gate_threshold), 4),
    }


def locomo(memory: MemoryModel, folder: Path, settings: common.Settings) -> dict:
    """AUC of the gate's score of a turn (its best candidate) for evidence turns against all others."""
    positive, negative = [], []
    talks = sets.locomo(folder)
    for talk in tqdm(talks[: settings.capped(len(talks))], desc="gate: LoCoMo", dynamic_ncols=True):
        needed = {turn for question in talk.questions for turn in question.evidence}
        turns = list(_locomo_turns(talk))
        scores = iter(judged(memory, [candidate for _, candidates in turns for candidate in candidates]))
        for dialogue_id, candidates in turns:
            best = max((next(scores) for _ in candidates), default=0.0)
            (positive if dialogue_id in needed else negative).append(best)
    return {"locomo_auc": auc(positive, negative), "locomo_turns": {"evidence": len(positive), "other": len(negative)}}


def _locomo_turns(talk: sets.Talk) -> Iterator[tuple[str, list[Candidate]]]:
    for session in talk.sessions:
        before = ""
        for turn in session:
            yield turn.id, split(turn.text, speaker=turn.speaker, now=turn.at, context=before)
            before = turn.text


def run(world: common.World, settings: common.Settings) -> dict:
    results = held_out(world, settings)
    if settings.data is None:
        return {
            **results,
            "locomo_auc": None,
            "locomo_note": f"not measured: --data DIR with {sets.LOCOMO} was not given",
        }
    return {**results, **locomo(world.memory, settings.data, settings)}
