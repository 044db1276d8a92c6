"""The command line does what the Python API does, and says in one line what went wrong."""

from __future__ import annotations

import builtins
import io
import json
import subprocess
import sys

import pytest
from fakes import rule_engine
from tqdm import tqdm

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


def test_what_other_memories_keep_saying_is_named(run):
    id, other = (short(run("add", text)[1]) for text in ("My brother is Tom.", "My brother is Tom. He lives in Oslo."))
    said, alone = run("edit", id, "My brother is Tim.")[1], run("edit", id, "My brother is Kim.")[1]
    assert "same words" in said and other in said.partition("same words")[2] and "same words" not in alone
    run("edit", id, "my brother is Tom.")
    assert "same words" in run("delete", id)[1]
    assert "same words" not in run("delete", other)[1]


def test_bytes_that_are_no_text_end_a_chat_in_a_line(run, monkeypatch):
    piped = io.TextIOWrapper(io.BytesIO("I live in Malmö.\n".encode("latin-1")), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", piped)
    code, _, err = run("chat")
    assert code == 2 and "not UTF-8" in err and len(err.splitlines()) == 1


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


def test_archive_pin_tag_merge_undo(run):
    rex, tea = (short(run("add", text)[1]) for text in ("My dog is called Rex.", "I love tea."))
    assert run("pin", rex)[0] == run("unpin", rex)[0] == 0
    assert "pets, home" in run("tag", rex, "pets", "home")[1] and "no tags" in run("tag", tea)[1]
    assert run("slots", "--tag", "pets")[1].startswith(rex) and "Rex" not in run("slots", "--find", "TEA")[1]
    assert "archived" in run("archive", tea)[1] and "tea" not in run("slots")[1]
    assert "active" in run("undo")[1]
    assert "Rex and tea." in run("merge", rex, tea, "--text", "Rex and tea.")[1]
    versions = run("versions", tea)[1].splitlines()
    assert len(versions) == 4 and "superseded" in versions[-1] and "undo" in versions[-2]
    assert "Nothing" in run("slots", "--as-of", "0")[1] and "tea" in run("slots", "--as-of", "2")[1]
    assert "neither" in run("slots", "--as-of", "Tuesday")[2]
    assert [run("slots", "--state", "all", "--limit", "1", "--page", page)[1].split()[0] for page in "12"] == [rex, tea]


def test_search_and_consolidate(run):
    for text in ("My dog is called Rex.", "My dog is called Rex!", "I love tea."):
        run("add", text)
    assert run("search", "What is my dog called?", "--limit", "1")[1].count("\n") == 1
    assert "tea" in run("search", "teas", "--by", "words")[1]
    assert "would replace" in run("consolidate", "--preview")[1] and run("slots")[1].count("\n") == 3
    assert "  replaces" in run("consolidate")[1] and run("slots")[1].count("\n") == 2
    assert "No two memories" in run("consolidate")[1]


def test_purge_of_a_session_and_of_everything(run, tmp_path):
    run("ask", "My dog is called Rex.", "--session", "Monday")
    run("ask", "My dog is called Tim.", "--temporary")
    sessions = run("sessions")[1].splitlines()
    assert len(sessions) == 1 and "Tim" not in run("slots")[1]
    id = sessions[0].split()[0]
    assert run("sessions", "--archive", id)[1] == "" and "Monday" in run("sessions", "--archived")[1]
    assert "Monday" in run("sessions", "--unarchive", id)[1]
    assert "Purged: 1" in run("purge", "--session", id, "--json", str(tmp_path / "c.json"))[1]
    certificate = json.loads((tmp_path / "c.json").read_text())
    assert certificate["searched"][0]["sha256"] and certificate["checks"] and "Rex" not in json.dumps(certificate)
    run("add", "I love tea.")
    assert "Say what to purge" in run("purge")[2] and "Say what" in run("purge", "x", "--everything")[2]
    assert "Purged: 1" in run("purge", "--everything")[1] and run("slots", "--state", "all")[1].startswith("Nothing")


def test_import_names_what_it_leaves_out(run, tmp_path):
    file = tmp_path / "out.jsonl"
    run("add", "My dog is called Rex.")
    run("export", str(file), "--complete")
    file.write_text(file.read_text() + "{\n")
    assert "Line 4" in run("import", str(file), "--user", "bob")[2]
    code, out, err = run("import", str(file), "--user", "bob", "--skip-bad")
    assert code == 0 and "1 memories added" in out and err.startswith("left out: 4 (")


def test_ids_of_another_user_are_unknown(run):
    id = short(run("add", "My dog is called Rex.")[1])
    run("ask", "My cat is called Tom.", "--session", "Monday")
    session = short(run("sessions")[1])
    before = run("slots", "--state", "all")[1], run("sessions")[1], run("versions", id)[1]
    for arguments in (
        ["edit", id, "forged text"], ["delete", id], ["restore", id], ["archive", id], ["pin", id], ["unpin", id],
        ["tag", id, "x"], ["merge", id, id + "x"], ["versions", id], ["purge", id], ["purge", "--session", session],
        ["sessions", "--archive", session], ["undo"],
    ):  # fmt: skip
        code, out, err = run(*arguments, "--user", "bob")
        assert code == 2 and out == "" and len(err.splitlines()) == 1, arguments
    for arguments in (["slots", "--state", "all"], ["search", id, "--by", "id"], ["search", "dog"], ["sessions"]):
        assert "Rex" not in run(*arguments, "--user", "bob")[1] and "Monday" not in run(*arguments, "--user", "bob")[1]
    assert run("purge", "--everything", "--user", "bob")[0] == 0
    assert (run("slots", "--state", "all")[1], run("sessions")[1], run("versions", id)[1]) == before


def test_what_is_said_about_the_store_reaches_it(run, monkeypatch):
    said, opened = [], mam.open
    monkeypatch.setattr(mam, "open", lambda *where, **how: said.append(how) or opened(*where, **how))
    assert run("slots", "--capacity", "7", "--store", "postgresql://somewhere")[0] == 0
    assert (said[0]["capacity"], said[0]["store"]) == (7, "postgresql://somewhere")
    assert run("slots")[0] == 0 and (said[1]["capacity"], said[1]["store"]) == (None, None)


def test_progress_is_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    out, at_once = Terminal(), {"delay": 0, "mininterval": 0}
    monkeypatch.setattr(mam.cli, "tqdm", lambda **how: tqdm(**(how | at_once), file=out))
    bars = mam.cli.Bars()
    for step in (("encoding anew", 5, 9), ("encoding anew", 9, 9), ("importing", 1, 2), ("ingesting", 3, 3)):
        bars(*step)
    shown = out.getvalue()
    for part in ("encoding anew:  56%", "5/9", "importing:  50%", "ingesting: 100%", "3/3"):
        assert part in shown, part


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
    spoken += ["/edit nothing y", "/help", "/delete nothing", "/new Tuesday", "/sessions", "/resume Monday"]
    spoken += ["/what", "/quit"]
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
