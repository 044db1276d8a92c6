"""The README: its examples print what it shows, its commands are real ones, its links lead somewhere."""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fakes import RuleMemory, rule_engine

import app
import mam
from mam import atlas, endpoint, fetch, residue
from mam.bench.cli import BENCHES
from mam.cli import ELSEWHERE, main
from mam.integrator import IntegratorConfig
from mam.lives import coverage
from mam.packs.text import MOST_WORDS
from mam.space import Space
from mam.store import Store

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text("utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
PROSE = FENCE.sub("", TEXT)
SPANS = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", PROSE)]
LINKS = re.findall(r"\]\(([^)]+)\)", PROSE)
OUTSIDE = {"https://arxiv.org/abs/2605.15156", "https://github.com/snap-research/locomo"}
SERVERS = {"127.0.0.1:8000", "127.0.0.1:11434", "api.openai.com"}  # in commands
PATIENCE = 300  # seconds


def blocks(language: str) -> list[str]:
    return [body for found, body in FENCE.findall(TEXT) if found == language]


def commands() -> list[list[str]]:
    """Every command in it, as words, without what is set for it in the environment."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += [span for span in SPANS if re.match(r"(python|make|pip|ruff) ", span)]
    found = [shlex.split(re.sub(r"^(\w+=\S+ )*", "", line), comments=True) for line in lines]
    return [list(words) for words in dict.fromkeys(map(tuple, found))]


def headings() -> set[str]:
    """Anchors of the headings, as a code-hosting site makes them."""
    titles = re.findall(r"^#+ (.+)$", PROSE, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def perform(tmp_path, tiny_folder, monkeypatch, capsys):
    """Runs a command: with a tiny base and a memory of rules; what would take hours or wait only gets its arguments."""
    engine, taken = rule_engine(tiny_folder), []

    def opened(path, base, user, device, memory, **how):
        taken.append(base)
        return Space(Store(tmp_path / "data", user), engine)

    def end(prompt: str) -> str:
        raise EOFError

    for name in ELSEWHERE.keys() - {"key"}:
        monkeypatch.setattr(importlib.import_module(ELSEWHERE[name][0]), "run", taken.append)
    monkeypatch.setattr("mam.web.serve.serve", lambda *arguments: taken.append(arguments))
    monkeypatch.setattr("mam.web.desk.Desk", lambda *arguments, **how: taken.append(arguments))
    monkeypatch.setattr("mam.accounts.Accounts", lambda file: taken.append(file))
    monkeypatch.setattr(mam, "open", opened)
    monkeypatch.setattr(builtins, "input", end)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> list:
        taken.clear()
        match words:
            case ("make", target):
                assert re.search(rf"^\.PHONY:.*\b{target}\b", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
            case ("pip", "install", "-r", file):
                assert (ROOT / file).exists()
            case ("ruff", "check" | "format", "."):
                assert importlib.util.find_spec("ruff") and "[tool.ruff]" in (ROOT / "pyproject.toml").read_text(
                    "utf-8"
                )
            case ("python", "app.py", *rest):
                assert app.main(rest) == 0 and taken
            case ("python", "-m", "mam", "--help"):
                with pytest.raises(SystemExit) as left:
                    main(["--help"])
                assert left.value.code == 0
            case ("python", "-m", "mam", *rest):
                assert main(rest) == 0 and (taken or capsys.readouterr().out)
            case ("python", "-m", module):
                assert importlib.util.find_spec(module)
            case _:
                raise AssertionError(f"nobody checks {words}")
        return taken

    return run


def test_every_command_is_one(perform):
    found = commands()
    assert len(found) > 20 and ["make", "run"] in found and ["python", "-m", "mam", "train", "--data", "DIR"] in found
    for words in found:
        for name in BENCHES if "NAME" in words and "bench" in words else ["NAME"]:
            perform(*[word.replace("NAME", name) for word in words])


def test_bases_reach_what_opens_them(perform):
    (chat,) = [words for words in commands() if words[3:4] == ["chat"] and "--base" in words]
    assert perform(*chat) == ["openai:llama3.2@http://127.0.0.1:11434/v1"]


def test_a_command_that_is_none_is_noticed(perform):
    for words in (["python", "-m", "mam", "forget"], ["python", "app.py", "--colour"], ["make", "coffee"], ["rm", "x"]):
        with pytest.raises((AssertionError, SystemExit)):
            perform(*words)


def test_options_are_those_of_commands(capsys):
    """Those that stand alone in the text."""
    real = set()
    for command in [app.main, *(lambda rest, name=name: main([name, *rest]) for name in names(capsys))]:
        with pytest.raises(SystemExit):
            command(["--help"])
        real |= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    mentioned = {option for span in SPANS for option in re.findall(r"(?<!\S)--[a-z-]+", span)}
    assert "--capacity" in mentioned and "--rate" in mentioned and mentioned <= real


def names(capsys) -> list[str]:
    with pytest.raises(SystemExit):
        main(["--help"])
    return re.findall(r"^    ([a-z]+) ", capsys.readouterr().out, re.MULTILINE)


# -- examples, with the shipped weights --------------------------------------------------------------------------------


def python(code: str, folder: Path) -> str:
    """What a program prints."""
    environment = {name: value for name, value in os.environ.items() if name != "MAM_DTYPE"}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def served_block() -> str:
    (block,) = [block for block in blocks("python") if "import OpenAI" in block]
    return block


def shown(block: str) -> str:
    """What the README says that a block prints: the block after it."""
    found = FENCE.findall(TEXT)
    language, body = found[found.index(("python", block)) + 1]
    assert language == "text"
    return body


def test_python_prints_what_is_shown(tmp_path):
    """One program of all blocks that need no server, in their order."""
    here = [block for block in blocks("python") if block != served_block()]
    assert len(here) == 2 and "import mam" in here[0]
    assert python("\n".join(here), tmp_path) == shown(here[0])


@pytest.fixture
def address(tmp_path) -> Iterator[str]:
    """A server as the README starts it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    assert ["python", "-m", "mam", "serve"] in commands()
    environment = {name: value for name, value in os.environ.items() if name != "MAM_DTYPE"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mam", "serve", "--path", str(tmp_path / "data"), "--port", port]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert f"127.0.0.1:{port}/v1" in server.stdout.readline()
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def test_a_client_prints_what_is_shown(address, tmp_path):
    assert python(served_block().replace("127.0.0.1:8000", address), tmp_path) == shown(served_block())


def test_a_conversation_looks_like_that(tmp_path, engine):
    (text,) = blocks("json")
    (tmp_path / "talk.json").write_text(text, encoding="utf-8")
    m = Space(Store(tmp_path / "data"), engine)
    assert isinstance(engine.memory, RuleMemory) and [slot.text for slot in m.import_(tmp_path / "talk.json")]
    assert m.slots()[0].told.year == 2026
    m.close()


# -- links and names ---------------------------------------------------------------------------------------------------


def test_links_lead_somewhere():
    assert len(LINKS) > 15
    for link in LINKS:
        if "://" in link:
            assert link in OUTSIDE and urlsplit(link).scheme == "https"
            continue
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists() and not path.startswith("/"), link
        assert not anchor or (not path and anchor in headings()), link
    bare = set(re.findall(r"(?:https?://)[^\s)`'\"]+", TEXT)) - OUTSIDE
    assert {urlsplit(url).netloc for url in bare} <= SERVERS


def test_it_begins_with_a_picture_and_two_commands():
    head, _, _ = TEXT.partition("\n## ")
    assert re.findall(r"!\[[^\]]+\]\((assets/screens/[\w-]+\.png)\)", head)
    assert [words[:2] for words in commands()[:2]] == [["make", "run"], ["make", "test"]]


def test_what_it_names_is_there():
    for path in (span for span in SPANS if re.fullmatch(r"(mam|tests|assets|notebooks|\.ci)/[\w./-]*", span)):
        assert (ROOT / path).exists(), path
    for name in set(re.findall(r"\bm\.(\w+)", " ".join([*SPANS, *blocks("python")]))):
        assert hasattr(Space, name), name
    source = " ".join(file.read_text("utf-8") for file in (ROOT / "mam").rglob("*.py"))
    for name in set(re.findall(r"\b(?:MAM|OPENAI)_[A-Z_]+\b", TEXT)):
        assert name in source, name


def test_its_addresses_are_those_of_the_server(service):
    paths = service.http().get("/openapi.json").json()["paths"]
    for path in ("slots", "slots/{id}", "slots/{id}/restore", "slots/{id}/versions", "read", "purge", "export"):
        assert f"/v1/memory/{path}" in paths
    assert any(path.startswith("/v1/memory/turns/") for path in paths)


def test_its_numbers_are_counted():
    assert f"{round((fetch.BASE.size + fetch.ENCODER.size) / 1e6)} MB, once" in TEXT
    assert f"{sum(counts['kinds'] for counts in coverage().values()):,} kinds of fact" in TEXT
    assert f"prefix of {IntegratorConfig('').prefix} key/value vectors" in TEXT
    assert f"PCA below {atlas.FEW} slots" in TEXT and f"counts as gone ({endpoint.TIMEOUT:g})" in TEXT
    assert f"at most {MOST_WORDS:,} words" in " ".join(TEXT.split())
    assert residue.SHORTEST == 6 and "fewer than six bytes" in " ".join(TEXT.split())


def test_rows_of_a_table_have_as_many_cells():
    for table in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, table
