"""What a prompt with notes can look like: the forms among which each baseline gets the best one.

A form turns notes (strings) and a question into the messages that the base's chat template gets. The forms differ
in where the notes stand, in their order, in the instruction, and in whether two worked examples come first; which
one a baseline uses was chosen on validation lives by `--tune-prompts` (see CHOSEN).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Messages = list[dict[str, str]]
Form = Callable[[Sequence[str], str], Messages]

BRIEF = "Answer briefly from the notes."
EXAMPLES = (
    (
        (
            "[3 May 2025] My landlord is called Mr. Ferris.",
            "[9 May 2025] I keep two rabbits in the garden.",
            "[9 May 2025] It has been raining all week.",
        ),
        "Which animals do I keep?",
        "You keep two rabbits.",
    ),
    (
        (
            "[1 June 2025] I moved to Utrecht in the spring.",
            "[4 June 2025] My aunt Rose plays the cello.",
            "[8 June 2025] I am a bit tired today.",
        ),
        "Where do I live?",
        "You live in Utrecht.",
    ),
)


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _listed(notes: Sequence[str]) -> str:
    return "\n".join(f"- {note}" for note in notes)


def in_system(notes: Sequence[str], question: str) -> Messages:
    system = f"You are a helpful assistant. This is what the user told you earlier:\n{_listed(notes)}"
    return [{"role": "system", "content": system}, _user(question)]


def in_system_brief(notes: Sequence[str], question: str) -> Messages:
    system = f"You answer questions about the user from these notes of what the user said.\n{_listed(notes)}\n{BRIEF}"
    return [{"role": "system", "content": system}, _user(question)]


def in_user(notes: Sequence[str], question: str) -> Messages:
    return [_user(f"Notes of what I told you:\n{_listed(notes)}\n\n{BRIEF}\nQuestion: {question}")]


def in_user_first(notes: Sequence[str], question: str) -> Messages:
    """The question on both sides of the notes, so that the base knows what to look for."""
    return [_user(f"{question}\n\nNotes of what I told you:\n{_listed(notes)}\n\n{BRIEF} {question}")]


def copying(notes: Sequence[str], question: str) -> Messages:
    """A small base copies better than it rephrases."""
    return [
        _user(
            f"Here are notes:\n{_listed(notes)}\n\nWhich of the notes answers this question? "
            f"Write that note out.\nQuestion: {question}"
        )
    ]


def _worked(form: Form, examples: Sequence[tuple], notes: Sequence[str], question: str) -> Messages:
    """Worked examples in this form, then the question."""
    messages: Messages = []
    for example, asked, answer in examples:
        messages += [*form(example, asked), {"role": "assistant", "content": answer}]
    return [*messages, *form(notes, question)]


def _bare(notes: Sequence[str], question: str) -> Messages:
    return [_user(f"{_listed(notes)}\n\n{question}")]


def two_shot(notes: Sequence[str], question: str) -> Messages:
    return _worked(in_user, EXAMPLES, notes, question)


def two_shot_system(notes: Sequence[str], question: str) -> Messages:
    system = {"role": "system", "content": f"You answer questions from notes. {BRIEF}"}
    return [system, *_worked(_bare, EXAMPLES, notes, question)]


def two_shot_copying(notes: Sequence[str], question: str) -> Messages:
    """Worked examples that answer by repeating the right note word for word."""
    messages: Messages = []
    for (example, asked, _), right in zip(EXAMPLES, (1, 0), strict=True):
        messages += [*in_user(example, asked), {"role": "assistant", "content": example[right].split("] ")[1]}]
    return [*messages, *in_user(notes, question)]


def as_chat(notes: Sequence[str], question: str) -> Messages:
    """What was said as the conversation it was: user messages, each with an answer."""
    messages: Messages = []
    for note in notes:
        date, _, said = note.partition("] ")
        if said.startswith("Assistant: "):
            messages.append({"role": "assistant", "content": said.removeprefix("Assistant: ")})
            continue
        messages.append(_user(f"{date}] {said.removeprefix('User: ')}"))
        if not said.startswith("User: "):
            messages.append({"role": "assistant", "content": "I will remember that."})
    return [*messages, _user(question)]


def bare(notes: Sequence[str], question: str) -> Messages:
    """No notes at all: what the base says by itself."""
    return [_user(question)]


FORMS: dict[str, Form] = {
    form.__name__: form
    for form in (
        in_system,
        in_system_brief,
        in_user,
        in_user_first,
        copying,
        two_shot,
        two_shot_system,
        two_shot_copying,
        as_chat,
    )
}


# ---- questions about documents ---------------------------------------------------------------------------------------

SHORT = "Answer with a few words from the text."
READ_EXAMPLES = (
    (("The mill was built by Edgar Vane in 1840.", "It stands on the Lune."), "Who built the mill?", "Edgar Vane"),
    (("At dawn the fox went to the well.", "It feared the hens."), "What was the fox afraid of?", "the hens"),
)


def text_before(notes: Sequence[str], question: str) -> Messages:
    return [_user(f"Text:\n{_listed(notes)}\n\n{SHORT}\nQuestion: {question}")]


def text_between(notes: Sequence[str], question: str) -> Messages:
    return [_user(f"{question}\n\nText:\n{_listed(notes)}\n\n{SHORT}\nQuestion: {question}")]


def text_in_system(notes: Sequence[str], question: str) -> Messages:
    return [{"role": "system", "content": f"{SHORT}\n{_listed(notes)}"}, _user(question)]


def text_with_answer(notes: Sequence[str], question: str) -> Messages:
    """As a form to fill in, in the words of the LongBench prompts."""
    task = "Answer the question based on the given text. Only give me the answer and do not output any other words."
    return [_user(f"{task}\n\nText:\n{_listed(notes)}\n\n{task}\n\nQuestion: {question}\nAnswer:")]


def text_two_shot(notes: Sequence[str], question: str) -> Messages:
    return _worked(text_before, READ_EXAMPLES, notes, question)


def text_two_shot_bare(notes: Sequence[str], question: str) -> Messages:
    """Worked examples and no instruction."""
    return _worked(_bare, READ_EXAMPLES, notes, question)


def closed(notes: Sequence[str], question: str) -> Messages:
    """Without a text: what the base knows by itself."""
    return [_user(f"Answer with a few words.\nQuestion: {question}")]


def closed_two_shot(notes: Sequence[str], question: str) -> Messages:
    return _worked(closed, READ_EXAMPLES, notes, question)


CLOSED: dict[str, Form] = {form.__name__: form for form in (bare, closed, closed_two_shot)}

READING: dict[str, Form] = {
    form.__name__: form
    for form in (
        text_before,
        text_between,
        text_in_system,
        text_with_answer,
        text_two_shot,
        text_two_shot_bare,
    )
}
# Where a benchmark has no training documents of its own to choose on (LoCoMo, LongBench, SCROLLS). The best for what
# answers, and nothing else, on 88 questions of SQuADShifts' Reddit and FairytaleQA's training part, in `reading`: F1
# 23.1; text_two_shot 20.7, text_two_shot_bare 20.5, text_before 19.6, text_between 18.2, text_in_system 15.3.
GOLD = "text_with_answer"


@dataclass(frozen=True)
class Choice:
    """How a baseline prompts: the form, how many notes of those retrieved, where the most relevant one stands, and of
    documents what a note is."""

    form: str
    notes: int | None = None  # None: the whole history, in order of time; of gold: what answers
    best_last: bool = False
    score: float | None = None  # on what it was chosen on: share right of validation lives, F1 of training documents
    source: str = "said"  # a document in its own words, or "text": as slots hold it, pronouns and dates resolved
    unit: int = 1  # sentences of a document, one after the other, that make a note; of gold: it and its neighbours

    def __str__(self) -> str:
        retrieved = f"{self.notes} notes, best {'last' if self.best_last else 'first'}"
        parts = [self.form, *([retrieved] if self.notes is not None else [])]
        parts += ["as slots have it"] * (self.source == "text") + [f"{self.unit} sentences a note"] * (self.unit > 1)
        return ", ".join(parts)


# Chosen on validation lives with the code of `--tune-prompts`, in several shorter runs (all forms on 5 lives, a short
# list on 20, a shorter one on 20 more), not in one; never on test lives. Runners-up on the same 120 questions of
# 40 validation lives (histories: 18 of 6): BM25 in_system_brief with 8 notes 0.31, two_shot with 3 notes 0.29, in_user
# with 1 note 0.24; MiniLM in_user with 3 notes 0.35. A third of these questions ask for a date, which a raw "next
# Friday" hides.
CHOSEN: dict[str, Choice] = {
    "prompt_bm25": Choice("in_user", 3, score=0.333),
    "prompt_minilm": Choice("in_user", 1, score=0.383),
    "full_context": Choice("two_shot_copying", score=0.056),
}
