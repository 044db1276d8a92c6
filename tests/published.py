"""Public data sets of a few lines, in the files and fields that they are published in."""

from __future__ import annotations

import gzip
import json

from mam.bench import sets

TALK = {
    "session_1_date_time": "1:56 pm on 8 May, 2023",
    "session_1": [
        {"speaker": "Ann", "dia_id": "D1:1", "text": "I adopted a greyhound in Lisbon."},
        {"speaker": "Bob", "dia_id": "D1:2", "text": "Nice!", "blip_caption": "a photo of my violin"},
    ],
    "session_2_date_time": "9:05 am on 1 June, 2023",
    "session_2": [
        {"speaker": "Bob", "dia_id": "D2:1", "text": "We moved to Oslo yesterday."},
        {"speaker": "Ann", "dia_id": "D2:2", "text": "Ok."},
    ],
    "session_3_date_time": "9:05 am on 2 June, 2023",  # as published: a time without a session
}
QUESTIONS = [
    {"question": "What greyhound did Ann adopt?", "answer": "a greyhound", "category": 4, "evidence": ["D1:1"]},
    {"question": "Which moved to Oslo, greyhound?", "answer": "Oslo", "category": 1, "evidence": ["D1:1; D2:1", "D"]},
    {"question": "What does Ann say to Oslo?", "answer": 2023, "category": 2, "evidence": ["D2:2"]},
    {"question": "Who sang in Lisbon?", "adversarial_answer": "Bob", "category": 5, "evidence": ["D1:1"]},
]


def packed(path, content, lines=False):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, content)) if lines else json.dumps(content))


def fill(folder):
    """A little of everything, in files as they are published."""
    packed(folder / sets.LOCOMO, [{"sample_id": "conv-1", "conversation": TALK, "qa": QUESTIONS}])
    text = "The Lune is a river. We know that Edgar Vane built the mill.\n"
    at = text.index("Edgar")
    row = {"context": text, "question": "Who built the mill?", "answers": [{"text": "Edgar Vane", "start": at}]}
    for part in ("wiki", "reddit"):
        packed(folder / f"qa_squadshifts_{part}.jsonl.gz", [row], lines=True)
    section = {"section": "1", "text": "A fox went to\rthe well.\n\nIt was afraid\nof the hens."}
    asked = {"story": "fox", "sections": ["1"], "question": "What did it fear?", "answers": ["the hens"], "kind": "x"}
    for part in ("val", "train"):
        packed(folder / f"stories_fairytale_{part}.jsonl.gz", [{"story": "fox", "sections": [section]}], lines=True)
        packed(folder / f"qa_fairytale_{part}.jsonl.gz", [asked], lines=True)
