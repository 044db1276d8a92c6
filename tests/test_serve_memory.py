"""The memory over REST: every operation, and whatever else somebody may send."""

from __future__ import annotations

import json
import re

import pytest
import schemathesis
import serving
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from mam.serve import memory
from mam.serve.app import application
from mam.serve.guard import Limits
from mam.serve.memory import AN_ID

DOG = "My dog is called Rex."


def description() -> dict:
    """The server's own, but for tuples: schemathesis 4.32 makes of their "prefixItems" what its validator refuses."""

    def plain(item):
        if isinstance(item, list):
            return [plain(each) for each in item]
        if not isinstance(item, dict):
            return item
        if "prefixItems" in item:
            item = item | {"items": item["prefixItems"][0]}
        return {name: plain(each) for name, each in item.items() if name != "prefixItems"}

    return plain(application(lambda user: None).app.openapi())


described = schemathesis.openapi.from_dict(description())
few = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory, engine):
    """A server with a few memories."""
    with serving.running(tmp_path_factory.mktemp("fuzzed"), engine, Limits(rate=10**6, tokens=10**7)) as service:
        for number in range(3):
            service.space("ann").add(f"Number {number} is {number}.")
        service.sent = {"Authorization": f"Bearer {service.keys['ann']}"}
        yield service


@described.include(path_regex="^/v1/memory").parametrize()
@few
def test_whatever_is_sent_gets_the_answer_that_is_described(case, fuzzed):
    slots, id = fuzzed.space("ann").slots(None), str(case.path_parameters.get("id"))
    if slots and "slots" in case.path and re.fullmatch(AN_ID, id) and len(id) % 2:  # else hardly one would be there
        case.path_parameters["id"] = slots[-1].id
    case.call_and_validate(base_url=fuzzed.url, headers=fuzzed.sent)


@described.include(path_regex="^/v1/(chat|models)").parametrize()
@few
def test_nothing_that_is_sent_breaks_the_chat(case, fuzzed):
    if isinstance(case.body, dict):
        case.body.setdefault("max_tokens", 2)
    case.call_and_validate(base_url=fuzzed.url, headers=fuzzed.sent, checks=[not_a_server_error])


def test_a_memory_from_its_first_word_to_its_last(service):
    http = service.http()

    def ask(method: str, path: str, code: int = 200, **how):
        answer = http.request(method, f"/v1/memory{path}", **how)
        assert answer.status_code == code, answer.text
        return answer.json()

    slot = ask("POST", "/slots", 201, json={"text": DOG})
    path = f"/slots/{slot['id']}"
    assert slot["text"] == DOG and slot["state"] == "active" and slot["version"] == 1
    assert ask("GET", "/slots") == {"slots": [slot], "total": 1} and ask("GET", path) == slot
    for by, find in (("text", "rex"), ("words", "dog"), ("reader", "What is my dog called?"), ("id", slot["id"][:6])):
        assert ask("GET", "/slots", params={"find": find, "by": by})["total"] == 1
    assert ask("GET", "/slots", params={"find": "cat"})["total"] == 0
    edited = ask("PATCH", path, json={"text": "My dog is called Max.", "version": 1})
    assert edited["version"] == 2
    assert "version 2" in ask("PATCH", path, 409, json={"text": "No.", "version": 1})["error"]["message"]
    reading = ask("POST", "/read", json={"query": "What is my dog called?"})
    assert reading["decision"] == "read" and reading["reads"][0]["slot"]["text"] == "My dog is called Max."
    assert ask("DELETE", path, 409, params={"version": 1}) and ask("DELETE", path)["state"] == "deleted"
    assert ask("GET", "/slots")["total"] == 0 and ask("GET", "/slots", params={"state": "all"})["total"] == 1
    assert ask("POST", "/read", json={"query": "What is my dog called?"})["decision"] == "abstain"
    assert ask("POST", f"{path}/restore")["state"] == "active"
    assert [version["text"][-4:] for version in ask("GET", f"{path}/versions")] == ["Rex.", "Max.", "Max.", "Max."]
    lines = [json.loads(line) for line in http.get("/v1/memory/export").text.splitlines()]
    assert lines[0]["user"] == "ann" and lines[1]["text"] == "My dog is called Max."
    certificate = ask("POST", "/purge", json={"ids": [slot["id"], slot["id"]]})
    assert certificate["slots"] == [slot["id"]] and certificate["searched"]
    for method, rest in (("GET", ""), ("GET", "/versions"), ("DELETE", ""), ("POST", "/restore")):
        error = ask(method, f"{path}{rest}", 404)["error"]
        assert error["type"] == "not_found_error" and error["message"]
    assert "Max" not in http.get("/v1/memory/export?complete=true").text


def test_an_export_goes_out_in_parts(service, monkeypatch):
    m, http = service.space("ann"), service.http()
    for number in range(5):
        m.add(f"Thing {number}")
    monkeypatch.setattr(memory, "PART", 2)
    with http.stream("GET", "/v1/memory/export") as answer:
        assert "content-length" not in answer.headers and answer.headers["content-type"] == memory.JSON_LINES
        assert "".join(answer.iter_text()) == m.exported()


def test_pages_of_memories(service):
    m, http = service.space("ann"), service.http()
    added = [m.add(f"Thing {number}").id for number in range(5)]
    seen = []
    for offset in (0, 2, 4, 6):
        page = http.get("/v1/memory/slots", params={"limit": 2, "offset": offset}).json()
        assert page["total"] == 5
        seen += [slot["id"] for slot in page["slots"]]
    assert seen == added[::-1]


@pytest.mark.parametrize(
    ("method", "path", "how"),
    [
        ("POST", "/slots", {"json": {}}),
        ("POST", "/slots", {"json": {"text": "  \n\u2028 "}}),
        ("POST", "/slots", {"json": {"text": "x" * 2001}}),
        ("POST", "/slots", {"json": {"text": 5}}),
        ("POST", "/slots", {"json": {"text": "x", "id": "mine"}}),
        ("POST", "/slots", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        ("POST", "/slots", {"content": b'{"text": "\xff"}', "headers": {"Content-Type": "application/json"}}),
        ("POST", "/slots", {"content": b'{"text": "\\ud800"}', "headers": {"Content-Type": "application/json"}}),
        ("POST", "/slots", {"content": b'{"text": "a form"}', "headers": {"Content-Type": "text/plain"}}),
        ("POST", "/slots", {"content": b'{"text": "of no type"}'}),
        ("POST", "/slots", {"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}),
        ("GET", "/slots", {"params": {"limit": 0}}),
        ("GET", "/slots", {"params": {"offset": 10**30}}),
        ("GET", "/slots", {"params": {"state": "gone"}}),
        ("POST", "/read", {"json": {"query": "x", "k": 65}}),
        ("POST", "/purge", {"json": {"ids": []}}),
        ("GET", "/slots/%00%2e%2e", {}),
        ("GET", "/turns/" + "x" * 65, {}),
    ],
)
def test_what_cannot_be_understood_is_explained_and_changes_nothing(service, method, path, how):
    answer = service.http().request(method, f"/v1/memory{path}", **how)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["message"] and "\n" not in error["message"]
    assert not service.space("ann").slots(None)


def test_what_is_not_there_or_not_done_so(service):
    http = service.http()
    for method, path, status in (
        ("GET", "/v1/memory/nothing", 404), ("GET", "/", 404), ("GET", "/docs", 404), ("PUT", "/v1/memory/slots", 405),
        ("GET", "/v1/memory/turns/unknown-turn", 404), ("GET", "/v1/chat/completions", 405),
    ):  # fmt: skip
        answer = http.request(method, path)
        assert answer.status_code == status and answer.json()["error"]["message"], path
    assert http.put("/v1/memory/slots").headers["allow"] == "GET, POST"
