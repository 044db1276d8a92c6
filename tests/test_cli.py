"""The command line does what the Python API does, and says in one line what went wrong."""

from __future__ import annotations

import builtins
import subprocess
import sys

import pytest
from fakes import rule_engine

import mam.cli
from mam.cli import main
from mam.space import Space
from mam.store import Store


@pytest.fixture
def run(tmp_path, tiny_folder, monkeypatch, capsys):
    """Runs a command on a space with the rule-based memory; returns (exit code, stdout, stderr)."""
    engine = rule_engine(tiny_folder)
    monkeypatch.setattr(
        mam, "open", lambda path, base, user, device, memory, **_: Space(Store(tmp_path / "d", user), engine)
    )

    def run_one(*arguments):
        code = main(list(arguments))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run_one


def short(line: str) -> str:
    return line.split()[0]


def test_add_edit_delete_restore_purge(run):
    _, out, _ = run("add", "My dog is called Rex.")
    id = short(out)
    assert "My dog is called Rex." in run("slots")[1]
    assert "Max" in run("edit", id, "My dog is called Max.")[1]
    assert "restore" in run("delete", id)[1]
    assert run("slots")[1] == "Nothing is remembered yet.\n"
    assert "deleted" in run("slots", "--state", "all")[1]
    assert "Max" in run("restore", id)[1]
    assert "Purged: 1" in run("purge", id)[1]
    assert run("slots", "--state", "all")[1] == "Nothing is remembered yet.\n"


def test_ask_replies_and_says_what_was_kept(run):
    code, out, _ = run("ask", "My dog is called Rex.", "--session", "Monday")
    assert code == 0 and "kept: My dog is called Rex. (0.90)" in out
    assert run("ask", "What is my horse called?")[1].startswith("You haven't told me that.")
    assert "Monday" in run("sessions")[1]


def test_export_import_ingest(run, tmp_path):
    run("add", "My dog is called Rex.")
    file = str(tmp_path / "out.jsonl")
    assert "1 memories" in run("export", file)[1]
    assert "1 memories added" in run("import", file, "--user", "bob")[1]
    (tmp_path / "a.txt").write_text("The sea is blue. The sky is grey.")
    assert "2 memories" in run("ingest", str(tmp_path / "a.txt"))[1]


def test_errors_are_one_line(run, tmp_path):
    for arguments in (
        ["edit", "nothing", "x y"],
        ["import", str(tmp_path / "none")],
        ["ask", " "],
        ["purge", "nothing"],
    ):
        code, out, err = run(*arguments)
        assert code == 2 and out == "" and len(err.splitlines()) == 1, arguments


def test_an_ambiguous_id_is_not_guessed(run, monkeypatch):
    ids = iter(["abcd1111", "abcd2222"])
    monkeypatch.setattr("mam.space.new_id", lambda: next(ids))
    run("add", "one thing")
    run("add", "another thing")
    assert "2 ids start" in run("delete", "abcd")[2]
    assert run("delete", "abcd1")[0] == 0


def test_terminal_chat(run, monkeypatch):
    spoken = ["", "My dog is called Rex. Hello!", "/writes", "/slots", "What is my dog called?", "/reads"]
    spoken += ["/edit x y", "/help", "/delete nothing", "/new Tuesday", "/sessions", "/resume Monday", "/what", "/quit"]
    lines = iter(spoken)
    monkeypatch.setattr(builtins, "input", lambda _: next(lines))
    code, out, err = run("chat", "--session", "Monday")
    assert code == 0
    for expected in (
        "on cpu, ",
        "kept: My dog",
        "not kept: Hello!",
        "nothing",
        "A new session.",
        "Session: Monday",
    ):
        assert expected in out, expected
    assert err.count("There is no memory") == 2


def test_edit_and_delete_in_the_chat(run, monkeypatch):
    id = short(run("add", "My dog is called Rex.")[1])
    lines = iter([f"/edit {id} My dog is called Max.", f"/delete {id}"])

    def read(_):
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(builtins, "input", read)
    assert "Max" in run("chat")[1]
    assert "deleted" in run("slots", "--state", "all")[1]


def test_an_interrupt_stops_the_reply_then_the_program(run, monkeypatch):
    from mam.chat import Reply

    def interrupted(self):
        self.text = "Half a"
        yield "Half a"
        raise KeyboardInterrupt

    monkeypatch.setattr(Reply, "pieces", interrupted)
    code, out, _ = run("ask", "My dog is called Rex.")
    assert code == 0 and out == "Half a (stopped)\n"
    monkeypatch.setattr(builtins, "input", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("chat")[0] == 130


@pytest.mark.parametrize("arguments", [["--help"], ["chat", "--help"], ["slots", "--help"]])
def test_help_needs_no_networks(arguments):
    script = f"import sys; from mam.cli import main; sys.argv[0] = 'mam'; main({arguments!r})"
    check = f"try:\n  {script}\nexcept SystemExit: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: python -m mam" in done.stdout, done.stderr


def test_a_part_that_is_not_installed_is_named(run, monkeypatch):
    monkeypatch.setitem(mam.cli.ELSEWHERE, "train", ("mam.no_such_module", "train"))
    assert "no_such_module" in run("train")[2]
