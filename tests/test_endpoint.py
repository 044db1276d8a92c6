"""A base on a server: what is sent to it, and whatever a server or the way to it can do wrong. Over real HTTP."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import chats
import pytest

from mam import base as bases
from mam.cli import main
from mam.endpoint import Endpoint
from mam.errors import EndpointError, InputError
from mam.prompt import compose

HELLO = [{"role": "user", "content": "Hello there, how are you?"}]


@pytest.fixture
def server():
    with chats.running() as server:
        yield server


@pytest.fixture
def base(server):
    return Endpoint(server.base, timeout=5)


def test_a_reply_comes_in_pieces_and_the_request_is_what_was_asked_for(server, base):
    manner = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 3}
    pieces = list(base.generate(HELLO, **manner))
    assert pieces == ["You", " say:", " Hello", " there,", " how", " are", " you?"]
    body = {"model": "parrot", "messages": HELLO, "stream": True, "max_tokens": 9, "temperature": 0.5}
    assert server.bodies == [body | {"top_p": 0.9, "seed": 3}] == [base.request(HELLO, **manner)]
    list(base.generate(HELLO))
    assert server.bodies[1] == body | {"max_tokens": 128, "temperature": 0.0}


def test_a_reply_arrives_while_it_is_spoken(server, base):
    server.pause = 0.2
    began = time.monotonic()
    pieces = base.generate(HELLO)
    assert next(pieces) == "You" and time.monotonic() - began < 0.8  # of 1.4 s for the whole reply
    pieces.close()


def test_it_goes_on_in_words(base):
    assert base.going_on(HELLO, []) == HELLO
    *same, begun, ask = base.going_on(HELLO, ["Well", ","])
    assert same == HELLO and begun == {"role": "assistant", "content": "Well,"} and ask["role"] == "user"


# -- a server in trouble -------------------------------------------------------------------------------------------


def test_a_server_that_dies_in_mid_reply(server, base):
    server.trouble = [chats.dies(after=3)]
    heard = []
    with pytest.raises(EndpointError, match="broke off in mid-reply; what it said until then is kept"):
        for piece in base.generate(HELLO):
            heard.append(piece)
    assert "".join(heard) == "You say: Hello" and len(server.bodies) == 1
    assert list(base.generate(HELLO))[0] == "You"  # the next one is as ever


def test_a_reply_without_an_end_is_no_whole_reply(server, base):
    server.trouble = [chats.ends_early]
    with pytest.raises(EndpointError, match="broke off"):
        list(base.generate(HELLO))


def test_a_busy_server_is_asked_again_when_it_says(server, base):
    server.trouble = [chats.busy("1"), chats.busy("0.3")]
    assert list(base.generate(HELLO))[0] == "You"
    first, second, third = server.times
    assert second - first >= 1 and third - second >= 0.3
    assert server.bodies[0] == server.bodies[1] == server.bodies[2]


def test_a_server_that_stays_busy(server):
    base = Endpoint(server.base, timeout=5, retries=1)
    server.trouble = [chats.busy("0.05")] * 2
    with pytest.raises(EndpointError, match=r"too busy \(slow down\); try again later"):
        list(base.generate(HELLO))
    assert len(server.bodies) == 2


def test_failures_before_the_first_word_are_tried_again_with_longer_pauses(server, base):
    server.trouble = [chats.refuses(500, "oops"), lambda handler: handler.die(), chats.refuses(503, "oops")]
    assert list(base.generate(HELLO))[0] == "You"
    gaps = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    assert len(gaps) == 3 and gaps[0] >= 0.3 and gaps[2] > gaps[0]


@pytest.mark.parametrize(
    "data",
    [
        b"data: {not json\n\n",
        b"data: \xff\xfe\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        [],
        "text",
        7,
        None,
        {"choices": 3},
        {"choices": {"a": 1}},
        {"choices": [None]},
        {"choices": [{"index": 0}]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {"content": {"a": 1}}}]},
    ],
    ids=lambda data: str(data)[:40],
)
def test_malformed_chunks_are_told_apart_from_words(server, base, data):
    server.trouble = [chats.sends(data)]
    pieces = base.generate(HELLO)
    assert next(pieces) == "Well,"
    with pytest.raises(EndpointError, match="sent something that is no reply"):
        list(pieces)


@pytest.mark.parametrize(
    "data", [{"choices": []}, {"choices": None}, {"choices": [{"delta": {"content": None}}]}, b": ping\n\n", b"\r\n"]
)
def test_chunks_without_words_are_no_trouble(server, base, data):
    server.trouble = [chats.sends(data)]
    assert list(base.generate(HELLO)) == ["Well,"]


def test_an_error_in_mid_reply(server, base):
    server.trouble = [chats.sends({"error": {"message": "out of memory"}})]
    with pytest.raises(EndpointError, match=r"failed \(out of memory\)"):
        list(base.generate(HELLO))


def test_half_a_character_can_be_stored(server, base):
    server.trouble = [chats.sends({"choices": [{"delta": {"content": "\ud83d"}}]})]
    assert "".join(base.generate(HELLO)).encode("utf-8")


@pytest.mark.parametrize("trouble", [chats.hangs(5), chats.hangs(5, ("Well,",)), chats.murmurs])
def test_a_server_that_hangs(server, trouble):
    base = Endpoint(server.base, timeout=0.3, retries=0)
    server.trouble = [trouble]
    began = time.monotonic()
    with pytest.raises(EndpointError, match="said nothing for 0.3 s"):
        list(base.generate(HELLO))
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("trouble", [chats.hangs(5), chats.hangs(5, ("Well,",)), chats.busy("60")])
def test_stop_does_not_wait(server, base, trouble):
    server.trouble = [trouble]
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    assert "".join(base.generate(HELLO, stop=stop)) in ("", "Well,")
    assert time.monotonic() - began < 1


def test_a_closed_reply_ends_the_request(server, base):
    server.trouble = [chats.hangs(5, ("Well,",))]
    pieces = base.generate(HELLO)
    next(pieces)
    pieces.close()
    assert server.left.wait(2)


def test_a_server_that_does_not_stop_is_stopped(server, base):
    server.trouble = [lambda handler: handler.answer(["la "] * 100)]
    assert len(list(base.generate(HELLO, max_tokens=2))) == 8


def test_nobody_there():
    with chats.running() as server:
        base = Endpoint(server.base, timeout=1, retries=0)
    with pytest.raises(EndpointError, match="cannot be reached"):
        list(base.generate(HELLO))


@pytest.mark.parametrize(
    ("status", "words"), [(404, "no such model"), (400, "status 400"), (422, "status 422"), (403, "refuses the key")]
)
def test_a_refusal_is_quoted(server, base, status, words):
    server.trouble = [chats.refuses(status, "the reason\nin two lines")]
    with pytest.raises(EndpointError, match=words) as caught:
        list(base.generate(HELLO))
    assert "(the reason in two lines)" in str(caught.value) and len(server.bodies) == 1


@pytest.mark.parametrize(
    "kind, content",
    [
        ("text/html", b"<html>Hi</html>"),
        ("application/json", b'{"choices": [{"message": {"content": "Whole."}, "finish_reason": "stop"}]}'),
        ("text/event-stream", b""),
    ],
)
def test_what_is_no_stream_is_no_reply(server, base, kind, content):
    def page(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    server.trouble = [page]
    with pytest.raises(EndpointError, match="is no reply, or no streamed one"):
        list(base.generate(HELLO))


def test_nobody_is_sent_elsewhere(server, base):
    with chats.running() as other:
        server.trouble = [
            lambda handler: handler.error(307, "over there", {"Location": f"{other.url}/chat/completions"})
        ]
        with pytest.raises(EndpointError, match="status 307"):
            list(base.generate(HELLO))
        assert other.bodies == []


def test_a_parameter_that_the_model_refuses_is_left_out_from_then_on(server, base):
    server.trouble = [
        chats.refuses(400, "use max_completion_tokens", param="max_tokens", code="unsupported_parameter"),
        chats.refuses(400, "only the default", param="temperature", code="unsupported_value"),
    ]
    assert list(base.generate(HELLO, max_tokens=3)) == ["You", " say:", " Hello"]
    body = {"model": "parrot", "messages": HELLO, "stream": True, "max_completion_tokens": 3}
    assert server.bodies[-1] == body == base.request(HELLO, max_tokens=3)
    list(base.generate(HELLO, max_tokens=3))
    assert server.bodies[-1] == body and len(server.bodies) == 4


def test_requests_at_the_same_time_find_out_what_is_refused(server, base):
    def picky(handler):
        time.sleep(0.2)  # until all have come
        if "max_tokens" not in handler.body:
            return False
        return handler.error(400, "no", param="max_tokens", code="unsupported_parameter")

    server.trouble = [picky] * 32
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: list(base.generate(HELLO, max_tokens=3)), range(16)))
    assert replies == [["You", " say:", " Hello"]] * 16


def test_a_value_that_is_refused_is_nobody_elses_concern(server, base):
    def strict(handler):
        if handler.body.get("temperature", 0) > 1:
            return handler.error(400, "at most 1", param="temperature", code="invalid_value")
        if handler.body.get("seed") == -1:
            return handler.error(400, "not this seed", param="seed", code="unsupported_value")
        return False

    server.trouble = [strict] * 9
    with pytest.raises(InputError, match="does not take temperature=2"):
        list(base.generate(HELLO, temperature=2))
    assert list(base.generate(HELLO, seed=-1))[0] == "You" and "seed" not in server.bodies[-1]
    assert list(base.generate(HELLO, seed=7, temperature=0.5))[0] == "You"
    assert server.bodies[-1]["temperature"] == 0.5 and server.bodies[-1]["seed"] == 7


@pytest.mark.parametrize("bad", [{"max_tokens": 0}, {"temperature": -1}, {"top_p": 0}])
def test_values_out_of_range_are_not_sent(server, base, bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        list(base.generate(HELLO, **bad))
    assert server.bodies == []


# -- keys and addresses --------------------------------------------------------------------------------------------


def test_keys_go_where_they_belong_and_into_no_log(server, monkeypatch, caplog):
    monkeypatch.setenv("MAM_API_KEY", "sk-secret-of-mine")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-openai")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    caplog.set_level(logging.DEBUG)
    base = Endpoint(server.base, timeout=5)
    server.trouble = [chats.refuses(401, "Incorrect API key provided: sk-secret-of-mine")]
    with pytest.raises(EndpointError, match="refuses the key.*MAM_API_KEY") as caught:
        list(base.generate(HELLO))
    list(base.generate(HELLO))
    assert [headers["authorization"] for headers in server.headers] == ["Bearer sk-secret-of-mine"] * 2
    assert "secret" not in f"{caught.value} {caplog.text} {base} {base.about()} {base.request(HELLO)}"
    assert "org-secret" not in str(server.headers)


def test_openais_key_is_for_openai_alone(server, monkeypatch):
    monkeypatch.delenv("MAM_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    list(Endpoint(server.base).generate(HELLO))
    assert "sk-secret" not in str(server.headers)
    assert Endpoint("openai:gpt@https://api.openai.com/v1")._client.api_key == "sk-secret"
    assert Endpoint("openai:gpt@https://api.openai.com.evil.example/v1")._client.api_key != "sk-secret"


def test_no_proxy_stands_between_this_machine_and_itself(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert list(Endpoint(server.base, retries=0).generate(HELLO))


def test_a_models_name_may_hold_an_at_sign(server):
    base = Endpoint(server.base.replace("parrot", "@cf/meta/llama-3"))
    assert base.name == "@cf/meta/llama-3"
    with pytest.raises(EndpointError, match="no such model"):
        list(base.generate(HELLO))


@pytest.mark.parametrize(
    "id",
    [
        "openai:", "openai:gpt", "openai:@http://x", "openai:m@x:1", "openai:m@http://", "openai:m@http://x:99999",
        "openai:m@http://[::1", "openai:m@http://exa mple/v1", "openai:m@http://x\0/v1", "openai:m@http://x/#v1",
        "openai:m@ftp://x", "openai:m@http://ann:word@x/v1", "openai:m@http://ann:word@[x", "openai:m@http://x/v1?key=1",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_explained(id):
    with pytest.raises(InputError, match="openai:MODEL@URL|MAM_API_KEY") as caught:
        Endpoint(id)
    assert "ann:word" not in str(caught.value)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_timeout_that_is_none_is_explained(monkeypatch, text):
    monkeypatch.setenv("MAM_TIMEOUT", text)
    with pytest.raises(InputError, match="MAM_TIMEOUT"):
        Endpoint("openai:m@http://127.0.0.1/v1")


@pytest.mark.parametrize("text", ["much", "0", "100", "-1", "8192.5"])
def test_a_context_that_is_none_is_explained(monkeypatch, text):
    monkeypatch.setenv("MAM_CONTEXT", text)
    with pytest.raises(InputError, match="MAM_CONTEXT"):
        Endpoint("openai:m@http://127.0.0.1/v1")


def test_a_large_model_is_told_all_of_a_long_message(monkeypatch):
    text = "First things first. " + "Then came another sentence. " * 1_500  # 10,500 tokens
    cut = compose(Endpoint("openai:m@http://127.0.0.1/v1"), [], text, [], 0, 256)
    assert "only the last" in cut.note and 14_000 < len(cut.messages[0]["content"]) < 16_400
    monkeypatch.setenv("MAM_CONTEXT", "128000")
    whole = compose(Endpoint("openai:m@http://127.0.0.1/v1"), [], text, [], 0, 256)
    assert whole.messages[0]["content"] == text and not whole.note


def test_what_needs_the_weights_says_so(server, capsys):
    with pytest.raises(InputError, match="are on its server"):
        bases.load(server.base)
    assert main(["attach", "--base", server.base, "--steps", "1"]) == 2
    assert "are on its server" in capsys.readouterr().err
