"""Invented lives: conversations over several sessions with labelled sentences, the facts told, and questions.

    from mam.lives import life
    one = life(seed=3, split="test")        # one.sessions, one.facts, one.questions

The words come from the YAML files in this folder; see `kinds` for how they are dealt to train, val and test.
"""

from .generator import UNKNOWN, commands, general_prompts, life, personal_questions
from .kinds import coverage
from .values import Fact, Life, LifeSession, Question, Sentence, Utterance

__all__ = [
    "UNKNOWN", "Fact", "Life", "LifeSession", "Question", "Sentence", "Utterance",
    "commands", "coverage", "general_prompts", "life", "personal_questions",
]  # fmt: skip
