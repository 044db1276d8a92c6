"""Logging in: hashed passwords in a file, everybody a memory of their own, and a class that chats at once."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from fakes import rule_engine

from mam import cli
from mam.accounts import Accounts, set_password
from mam.errors import InputError, MamError
from mam.space import Space
from mam.store import Store
from mam.web.desk import Desk
from mam.web.serve import launch
from mam.web.talk import Talk

WORD = "correct horse"


def test_only_the_right_password_opens(tmp_path):
    file = tmp_path / "accounts"
    set_password(file, "ann", WORD)
    set_password(file, "Bob: the second", "another one")
    accounts = Accounts(file)
    assert accounts.check("ann", WORD) and accounts.check("Bob: the second", "another one")
    for name, password in (("ann", "another one"), ("bob", WORD), ("ann", ""), ("", ""), ("ann", WORD + " ")):
        assert not accounts.check(name, password)
    assert WORD not in file.read_text() and oct(file.stat().st_mode)[-3:] == "600"


def test_a_changed_password_counts_at_once(tmp_path):
    file = tmp_path / "accounts"
    set_password(file, "ann", WORD)
    accounts = Accounts(file)
    set_password(file, "ann", "a new password")
    set_password(file, "bob", WORD)
    assert not accounts.check("ann", WORD) and accounts.check("ann", "a new password") and accounts.check("bob", WORD)


@pytest.mark.parametrize("content", [b"ann:plain text\n", b"no colon\n", b"\xff\xfe", b"", None])
def test_a_file_that_cannot_be_used_is_explained(tmp_path, content):
    file = tmp_path / "accounts"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match="Line 1|UTF-8|no account|cannot be read"):
        Accounts(file)


@pytest.mark.parametrize(("name", "password"), [("", WORD), ("ann", "short"), ("ann", "x" * 1001), ("a\nb", WORD)])
def test_bad_names_and_passwords_are_refused(tmp_path, name, password):
    with pytest.raises(InputError):
        set_password(tmp_path / "accounts", name, password)
    assert not list(tmp_path.iterdir())


def test_the_command_adds_an_account(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{WORD}\n"))
    assert cli.main(["account", str(tmp_path / "accounts"), "ann"]) == 0
    assert Accounts(tmp_path / "accounts").check("ann", WORD)


def test_nobody_else_gets_in_without_accounts(tmp_path):
    done = subprocess.run(
        [sys.executable, "app.py", "--host", "0.0.0.0", "--no-browser"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "--auth FILE" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def engine(tiny_folder):
    return rule_engine(tiny_folder)


def test_a_request_without_a_login_gets_no_memory(tmp_path, engine):
    desk = Desk(lambda user, memory: Space(Store(tmp_path, user), engine), login=True)
    desk._load()
    with pytest.raises(MamError, match="log in"):
        desk.space(SimpleNamespace(username=None, session_hash="x"))


def test_the_page_asks_for_a_login(tmp_path, engine):
    import httpx

    set_password(tmp_path / "accounts", "ann", WORD)
    desk = Desk(lambda user, memory: Space(Store(tmp_path / "data", user), engine))
    blocks = launch(desk, None, quiet=True, accounts=Accounts(tmp_path / "accounts"))
    try:
        with httpx.Client(base_url=blocks.local_url, trust_env=False) as client:
            assert client.get("config").status_code == 401
            assert client.post("login", data={"username": "ann", "password": "wrong one"}).status_code == 400
            assert client.post("login", data={"username": "ann", "password": WORD}).status_code == 200
            assert client.get("config").status_code == 200
    finally:
        blocks.close()


def test_the_tab_of_somebody_else_opens_nothing(tmp_path, engine):
    """Gradio tells tabs apart by a number that the browser makes up: whoever knows it must still be who began it."""
    import httpx

    desk = Desk(lambda user, memory: Space(Store(tmp_path / "data", user), engine))
    for name in ("ann", "bob"):
        set_password(tmp_path / "accounts", name, WORD)
    blocks = launch(desk, None, quiet=True, accounts=Accounts(tmp_path / "accounts"))
    try:
        people = []
        for name in ("ann", "bob"):
            people.append(client := httpx.Client(base_url=blocks.local_url, trust_env=False))
            assert client.post("login", data={"username": name, "password": WORD}).status_code == 200
        ann, bob = people
        tick = next(fn["id"] for fn in ann.get("config").json()["dependencies"] if len(fn["inputs"]) == 1)
        event = {"data": [None], "fn_index": tick, "session_hash": "annstab"}
        assert ann.post("gradio_api/queue/join", json=event).status_code == 200
        join, words = "gradio_api/queue/join", json.dumps(event)
        for how in (
            {"json": event},
            *({"content": words, "headers": {"content-type": t}} for t in ("", "application/x+json")),
        ):
            assert bob.post(join, **how).status_code == 404
        assert bob.post("gradio_api/cancel", json=event | {"event_id": "x"}).status_code == 404
        assert bob.get("gradio_api/queue/data", params={"session_hash": "annstab"}).status_code == 404
        assert bob.get("gradio_api/heartbeat/annstab").status_code == 404
        with ann.stream("GET", "gradio_api/queue/data", params={"session_hash": "annstab"}) as stream:
            assert stream.status_code == 200 and "event_id" in next(stream.iter_lines())
        assert bob.post("gradio_api/queue/join", json=event | {"session_hash": "bobstab"}).status_code == 200
    finally:
        for client in people:
            client.close()
        blocks.close()


def test_twenty_people_chat_at_once_and_everybody_gets_their_own(tmp_path, engine):
    desk = Desk(lambda user, memory: Space(Store(tmp_path, user), engine), login=True, user="teacher")
    desk._load()
    chats, failed = Talk(desk), []

    def talk(number: int) -> None:
        request = SimpleNamespace(username=f"user {number}", session_hash=f"tab {number}")
        try:
            session = None
            for said in (f"My number is {number}.", "What is my number?"):
                for shown in chats.send(said, session, False, request):
                    session = shown[0] if isinstance(shown[0], str) else session
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed
    for number in range(20):
        m = desk.space(SimpleNamespace(username=f"user {number}", session_hash="another tab"))
        (session,) = m.sessions()
        assert [slot.text for slot in m.slots()] == [f"My number is {number}."]
        told, asked = m.turns(session.id)
        assert told.reply and [read.slot.text for read in asked.reads if read.given] == [f"My number is {number}."]
