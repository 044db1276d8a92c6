"""What was computed for a pack, by what it was computed from, so that no work is done twice.

One JSON line for each call of the generator and of the verification. An interrupted build goes on from it, and after a
deletion everything that does not concern the deleted text is still there, so that nothing about the rest is asked anew.
A line that was cut off, or holds anything else than a result, is computed again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from mam.packs.files import digest, write

Result = str | list[dict[str, str]]  # a reply, or pairs


class Memo:
    """Results by task and inputs: texts, among them every sentence that went into the result."""

    def __init__(self, file: Path):
        self._file, self._lines, self._used = file, {}, set()
        if file.exists():
            for text in file.read_text(encoding="utf-8", errors="replace").split("\n"):
                try:
                    line = json.loads(text)
                except ValueError:
                    continue
                if _whole(line):
                    self._lines[_key(line["task"], line["inputs"])] = line

    def __call__(self, task: str, inputs: Sequence[str], compute: Callable[[], Result]) -> Result:
        """The result, computed if it is not there yet."""
        key = _key(task, inputs)
        self._used.add(key)
        if key not in self._lines:
            line = {"task": task, "inputs": list(inputs), "result": compute()}
            with self._file.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps(line, ensure_ascii=False))
            self._lines[key] = line
        return self._lines[key]["result"]

    def forget(self, texts: Collection[str]) -> None:
        """Drop every result that one of the texts went into."""
        gone = set(texts)
        self._keep({key for key, line in self._lines.items() if not gone & set(line["inputs"])})

    def prune(self) -> None:
        """Drop every result that was not asked for."""
        self._keep(self._used)

    def _keep(self, keys: Collection[str]) -> None:
        self._lines = {key: line for key, line in self._lines.items() if key in keys}
        write(self._file, "\n".join(json.dumps(line, ensure_ascii=False) for line in self._lines.values()))


def _key(task: str, inputs: Sequence[str]) -> str:
    return digest([task, list(inputs)])


def _whole(line: object) -> bool:
    """Whether a line is what this module writes: packs come from elsewhere, too."""
    if not isinstance(line, dict) or line.keys() != {"task", "inputs", "result"}:
        return False
    result, texts = line["result"], [line["task"], line["inputs"]]
    if isinstance(line["inputs"], list):
        texts = [line["task"], *line["inputs"]]
    if isinstance(result, list) and all(isinstance(p, dict) and p.keys() == {"question", "answer"} for p in result):
        texts += [text for pair in result for text in pair.values()]
    else:
        texts.append(result)
    return all(isinstance(text, str) for text in texts)
