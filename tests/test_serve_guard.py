"""Who is let in by the server, and how much of it one user may take."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from types import SimpleNamespace

import chats
import openai
import pytest
import serving
from fakes import RuleMemory

from mam import cli
from mam.endpoint import Endpoint
from mam.engine import Engine
from mam.errors import InputError
from mam.serve import app as server
from mam.serve.app import CONNECTIONS, Patient, Spaces, application, prepared
from mam.serve.guard import Bucket, Guard, Limits
from mam.serve.keys import Keys, new_key, revoke
from mam.values import Found


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", "Basic {ann}", "Bearer {ann}x", f"Bearer {'x' * 5000}"]
)
def test_without_a_valid_key_nothing_is_answered(service, header):
    http, header = service.http(None), header.format(**service.keys)
    for path in ("/v1/models", "/v1/memory/slots", "/v1/memory/export", "/openapi.json", "/mcp", "/nothing"):
        answer = http.get(path, headers={"Authorization": header} if header else {})
        assert answer.status_code == 401 and answer.json()["error"]["type"] == "authentication_error"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{service.url}/v1", api_key="wrong", max_retries=0).models.list()


def test_a_revoked_key_does_not_count_any_more(service):
    http = service.http()
    assert http.get("/v1/models").status_code == 200
    second = new_key(service.file, "ann")
    assert revoke(service.file, "ann") == 2
    assert http.get("/v1/models").status_code == 401
    assert http.get("/v1/models", headers={"Authorization": f"Bearer {second}"}).status_code == 401
    assert service.http("bob").get("/v1/models").status_code == 200


def test_keys_are_kept_as_hashes(tmp_path, capsys):
    file = tmp_path / "keys"
    assert cli.main(["key", str(file), "ann"]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("mam-") and key not in file.read_text() and oct(file.stat().st_mode)[-3:] == "600"
    assert Keys(file).user(key) == "ann" and Keys(file).user(key[:-1]) is None and Keys(file).user("") is None
    assert cli.main(["key", str(file), "bob", "--revoke"]) == 2
    assert cli.main(["key", str(file), "ann", "--revoke"]) == 0
    with pytest.raises(InputError, match="holds no key"):
        Keys(file)
    file.write_text("ann:secret\n")
    with pytest.raises(InputError, match="Line 1"):
        Keys(file)


def test_without_keys_only_this_machine_is_served(tmp_path, engine, capsys):
    app = application(lambda user: None)
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        with pytest.raises(InputError, match="--keys"):
            prepared(app, host, 0)
    assert cli.main(["serve", "--host", "0.0.0.0"]) == 2 and "--keys" in capsys.readouterr().err
    assert cli.main(["serve", "--rate", "0"]) == 2
    with serving.running(tmp_path, engine, names=()) as service:
        http = service.http()
        assert http.get("/v1/models").status_code == 200
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", ""):
            assert http.get("/v1/memory/slots", headers={"Host": host}).status_code in (400, 421)
        assert http.get("/v1/models", headers={"Host": "localhost:99"}).status_code == 200
        for origin in ("https://evil.example", "http://127.0.0.1.evil.example:80", "null"):
            assert http.post("/v1/memory/purge", headers={"Origin": origin}).status_code == 403
        for origin in ("http://localhost:7860", "http://127.0.0.1", "http://[::1]:5"):
            assert http.get("/v1/models", headers={"Origin": origin}).status_code == 200
        with pytest.raises(InputError, match="--port"):
            prepared(app, "127.0.0.1", int(service.url.rpartition(":")[2]))


def test_limits_of_size_rate_and_tokens(tmp_path, engine):
    with serving.running(tmp_path, engine, Limits(bytes=2_000, rate=12, tokens=40, reply=5)) as service:
        http, client = service.http(), service.client()
        assert http.post("/v1/memory/slots", json={"text": "x" * 3_000}).status_code == 413
        parts = (b"x" * 500 for _ in range(9))
        answer = http.post("/v1/memory/slots", content=parts, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413 and answer.json()["error"]["message"]
        reply = serving.ask(client, "Hello there, how are you?", max_tokens=500)
        assert reply.usage.completion_tokens <= 5 and reply.usage.total_tokens > 40
        with pytest.raises(openai.RateLimitError) as caught:
            serving.ask(client, "Hello")
        assert int(caught.value.response.headers["retry-after"]) >= 1
        codes = [http.get("/v1/models").status_code for _ in range(12)]
        assert codes[0] == 200 and codes[-1] == 429
        assert service.http("bob").get("/v1/models").status_code == 200  # each has their own


def test_many_requests_at_once_do_not_pass_the_limit_of_tokens(tmp_path):
    with chats.running() as upstream, ThreadPoolExecutor(12) as threads:
        upstream.pause = 0.5
        engine = Engine(Endpoint(upstream.base), RuleMemory(), None)
        with serving.running(tmp_path, engine, Limits(tokens=100)) as service:
            client = service.client()
            asked = [threads.submit(serving.ask, client, "Good day", max_tokens=28) for _ in range(12)]
            refused = [one.exception(60) for one in asked]
            assert [type(error) for error in refused if error] == [openai.RateLimitError] * 9
            serving.ask(client, "Good day", max_tokens=28)  # what was set aside and not used is there again


def test_a_reply_that_breaks_off_counts_and_so_do_large_pieces(tmp_path):
    with chats.running() as upstream:
        engine = Engine(Endpoint(upstream.base), RuleMemory(), None)
        with serving.running(tmp_path, engine, Limits(tokens=600)) as service:
            client, said = service.client(), "word " * 300
            upstream.trouble.append(lambda handler: handler.answer([said]))
            reply = serving.ask(client, "Hello", max_tokens=400)
            assert reply.usage.completion_tokens == 375
            upstream.trouble.append(lambda handler: handler.answer([said], end=False) or handler.die())
            client = service.client("bob")
            with pytest.raises(openai.APIError):
                list(serving.ask(client, "Hello", max_tokens=400, stream=True))
            with pytest.raises(openai.RateLimitError):
                serving.ask(client, "Hello", max_tokens=400)


def test_a_request_that_never_ends_is_not_waited_for(service, monkeypatch):
    monkeypatch.setattr(Guard, "patience", 0.2)
    address, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((address, int(port)), timeout=10) as connection:
        head = f"POST /v1/memory/slots HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.keys['ann']}\r\n"
        connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_connections_without_a_request_make_room_for_others(service, monkeypatch):
    monkeypatch.setattr(Patient, "patience", 4.0)
    address, port = service.url.removeprefix("http://").split(":")
    http = service.http()
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection((address, int(port)))) for _ in range(CONNECTIONS)]
        silent[0].sendall(b"GET /v1/models HTTP/1.1\r\n")  # a head without an end
        assert http.get("/v1/models").status_code == 503
        until = time.monotonic() + 60
        while http.get("/v1/models").status_code == 503 and time.monotonic() < until:
            time.sleep(0.5)
        assert http.get("/v1/models").status_code == 200
        assert {connection.recv(1) for connection in silent[:2]} == {b""}


def test_a_client_that_takes_nothing_of_its_answer_is_let_go(service, monkeypatch):
    monkeypatch.setattr(Patient, "patience", 1.0)
    line, lines = "x" * 999 + "\n", 30_000
    monkeypatch.setattr(service.space("ann"), "exported_lines", lambda **_: (line for _ in range(lines)))
    address, port = service.url.removeprefix("http://").split(":")
    for rests, whole in ((0.0, True), (4.0, False)):
        with socket.create_connection((address, int(port)), timeout=10) as connection:
            head = f"GET /v1/memory/export HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.keys['ann']}\r\n"
            connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
            time.sleep(rests)
            taken = 0
            with suppress(ConnectionResetError):
                while part := connection.recv(1 << 20):
                    taken += len(part)
        assert (taken > len(line) * lines) == whole


def test_a_bucket_refills():
    clock = SimpleNamespace(now=0.0)
    bucket = Bucket(60, lambda: clock.now)
    assert [bucket.wait(30), bucket.wait(30), bucket.wait(1)] == [0, 0, 1]
    clock.now = 30
    assert bucket.wait(30) == 0 and bucket.wait(1) == 1
    bucket.give_back(-59)
    assert bucket.wait(1) == 60
    bucket.give_back(59)
    clock.now = 10_000
    assert bucket.wait(90) == 0 and bucket.wait(1) == 31


@pytest.mark.parametrize("way", ["REST", "MCP"])
def test_one_user_cannot_keep_all_others_from_their_memories(service, monkeypatch, way):
    go_on, her = threading.Event(), service.space("ann")
    service.space("bob")
    monkeypatch.setattr(her, "find", lambda *args, **how: go_on.wait(60) and Found((), 0))
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "memory_list", "arguments": {}}}
    accepted = {"Accept": "application/json, text/event-stream"}

    def waits(_) -> int:
        if way == "REST":
            return service.http().get("/v1/memory/slots").status_code
        return service.http().post("/mcp", json=call, headers=accepted).status_code

    with ThreadPoolExecutor(60) as threads:
        hers = [threads.submit(waits, number) for number in range(60)]
        try:
            time.sleep(2)
            assert not any(one.done() for one in hers)
            http = service.http("bob")
            assert http.get("/v1/memory/slots", timeout=10).status_code == 200
            assert serving.ask(service.client("bob", timeout=20), "Good day").choices
        finally:
            go_on.set()
        assert {one.result(60) for one in hers} == {200}


def test_nobody_waits_for_the_memory_of_somebody_else_to_open():
    go_on = threading.Event()
    spaces = Spaces(lambda user: go_on.wait(30) and user if user == "slow" else user)
    with ThreadPoolExecutor(3) as threads:
        slow = [threads.submit(spaces.of, "slow") for _ in range(2)]
        assert threads.submit(spaces.of, "bob").result(5) == "bob" and not any(one.done() for one in slow)
        go_on.set()
        assert [one.result(5) for one in slow] == ["slow"] * 2


def test_one_user_cannot_take_all_replies_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "AT_ONCE", 3)
    monkeypatch.setattr(server, "OF_ONE", 2)
    with chats.running() as upstream, ThreadPoolExecutor(6) as threads:
        upstream.pause = 1.0  # between the words of a reply
        engine = Engine(Endpoint(upstream.base), RuleMemory(), None)
        with serving.running(tmp_path, engine) as service:
            hers = [threads.submit(serving.ask, service.client(), "Good day") for _ in range(5)]
            until = time.monotonic() + 20
            while len(upstream.bodies) < 2 and time.monotonic() < until:
                time.sleep(0.05)
            time.sleep(0.5)
            assert len(upstream.bodies) == 2  # the others of hers wait
            serving.ask(service.client("bob"), "Good day")
            assert sum(one.done() for one in hers) <= 2  # there was room for his
            assert all(one.result(60).choices for one in hers)
