"""Packs on the command line."""

from __future__ import annotations

import argparse
import json

import pytest
from packing import echoing, lives, written

from mam import cli
from mam.packs import build
from mam.packs import cli as packs
from mam.packs.files import digest

QUESTION = "Anna lives in which?"


ENGINE, pytestmark = echoing, pytest.mark.usefixtures("quick_packs")


def test_the_command_line(tmp_path, tiny_folder, engine, monkeypatch, capsys):
    monkeypatch.setattr("mam.engine.engine", lambda *_: engine)
    monkeypatch.setenv("MAM_HOME", str(tmp_path / "home"))
    lm = ["--lm", str(tiny_folder)]

    def run(*arguments: str) -> str:
        code = cli.main(["pack", *arguments])
        out = capsys.readouterr()
        assert code == 0, out.err
        return out.out

    paths = [str(path) for path in written(tmp_path / "text", a=lives("Anna"), b=lives("Berta"))]
    assert "no packs" in run("list")
    said = run("build", *paths, "--name", "towns", "--shard", "1", "--epochs", "60", *lm)
    assert "2 documents, 8 words" in said and "shard 001  ready" in said
    assert "2 shards" in run("list")
    assert "Anna lives in which? Oslo  [a.txt 1]" in run("show", "towns", "--find", "Anna lives")
    assert "Oslo" in run("ask", "towns", QUESTION)
    assert "[answer, pack]" in run("ask", "towns", QUESTION, "--calls")
    assert "[grounding, pack]" in run("ask", "towns", QUESTION, "--calls", "--stages")
    assert "deletion discards" in run("merge", "towns", "--method", "ties")
    run("export", "towns", str(tmp_path / "towns.pack"))
    run("import", str(tmp_path / "towns.pack"), "--name", "copy", *lm)
    assert "Monday: towns" in run("mount", "towns", "--session", "Monday")
    assert "Monday: towns" in run("mount", "towns", "--session", "Monday", "--stages")
    assert "no packs" in run("mount", "towns", "--session", "Monday", "--off")
    said = run("edit", "towns", "b.txt", "1", "Berta lives in Rome.")
    assert "Taken out: b.txt" in said and "Rome" in run("show", "towns", "--find", "Berta lives")
    said = run("delete", "towns", "a.txt", "--json", str(tmp_path / "certificate.json"))
    assert "Taken out: a.txt" in said and "training set" in said
    assert json.loads((tmp_path / "certificate.json").read_text())["documents"]["a.txt"] == digest(lives("Anna"))
    assert "gone" in run("remove", "copy")
    assert cli.main(["pack", "ask", "copy", QUESTION]) == 2 and "no pack 'copy'" in capsys.readouterr().err


def test_the_command_line_certifies_what_is_interrupted(tmp_path, tiny_folder, engine, monkeypatch, capsys):
    monkeypatch.setattr("mam.engine.engine", lambda *_: engine)
    monkeypatch.setenv("MAM_HOME", str(tmp_path / "home"))
    paths = [str(path) for path in written(tmp_path / "text", a=lives("Anna"), b=lives("Berta"))]
    going = ["pack", "build", "--name", "towns", "--epochs", "1"]
    assert cli.main([*going, *paths, "--lm", str(tiny_folder)]) == 0

    def interrupted(*_, **how):
        raise KeyboardInterrupt

    file, whole = tmp_path / "certificate.json", build.Builder.build
    monkeypatch.setattr(build.Builder, "build", interrupted)
    capsys.readouterr()
    assert cli.main(["pack", "delete", "towns", "a.txt", "--json", str(file)]) == 130
    assert "Shard 000 answers nothing until it is trained anew without it" in capsys.readouterr().out
    assert json.loads(file.read_text())["waiting"] is True
    assert cli.main(["pack", "delete", "towns", "nothing.txt"]) == 2 and "Taken out" not in capsys.readouterr().out
    monkeypatch.setattr(build.Builder, "build", whole)
    assert cli.main(going) == 0 and cli.main(["pack", "show", "towns"]) == 0
    assert f"document {digest(lives('Anna'))[:16]}. Shard 000 answered nothing until" in capsys.readouterr().out


def test_every_argument_says_what_it_is_for():
    parser = argparse.ArgumentParser()
    packs.add_arguments(parser)
    (commands,) = (action.choices for action in parser._actions if action.choices)
    for name, command in commands.items():
        assert [action.dest for action in command._actions if not action.help] == [], name
    shown = [line.split()[4] for line in packs.EPILOG.splitlines() if line.startswith("python -m mam pack")]
    assert len(shown) > 3 and set(shown) <= commands.keys() and "answers nothing" in parser.format_help()
