"""The server through the official OpenAI client: an existing program changes its base URL, and remembers."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import chats
import openai
import pytest
import serving
from fakes import RuleMemory
from serving import ask
from tokenizers.processors import TemplateProcessing

from mam.endpoint import Endpoint
from mam.engine import Engine
from mam.errors import StoreError
from mam.prompt import PROMPT_TOKENS
from mam.serve.chat import Message as Sent
from mam.serve.chat import Said, Until
from mam.space import Space
from mam.store import Store
from mam.values import Turn

DOG = "My dog is called Rex."
ASKED = "What is my dog called?"


def traced(service, answer) -> dict:
    return service.http().get(answer.headers["x-mam-trace"]).json()


def test_an_existing_client_remembers_across_conversations(service):
    client = service.client()
    told = ask(client, DOG)
    assert told.object == "chat.completion" and told.choices[0].message.role == "assistant"
    assert told.usage.total_tokens == told.usage.prompt_tokens + told.usage.completion_tokens > 0
    answer = client.chat.completions.with_raw_response.create(
        model="gpt-4o", messages=[{"role": "user", "content": ASKED}], max_tokens=8
    )
    trace = traced(service, answer)
    assert [read["slot"]["text"] for read in trace["reads"] if read["given"]] == [DOG]
    assert trace["reply"] == answer.parse().choices[0].message.content and DOG in trace["given"]
    assert len(service.space("ann").sessions()) == 2


def test_a_streamed_reply_is_the_whole_one(service):
    client = service.client()
    ask(client, DOG)
    whole = ask(client, ASKED, max_tokens=24)
    with client.chat.completions.with_streaming_response.create(
        model="any",
        messages=[{"role": "user", "content": ASKED}],
        max_tokens=24,
        stream=True,
        stream_options={"include_usage": True},
    ) as answer:
        chunks = list(answer.parse())
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage and chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert {chunk.id for chunk in chunks} == {f"chatcmpl-{answer.headers['x-mam-trace'].rpartition('/')[2]}"}
    assert traced(service, answer)["reply"] == text


def test_with_nothing_read_the_base_says_what_it_says_to_these_messages(service, engine):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "Welcome."},
        {"role": "user", "content": "Hello there"},
        {"role": "assistant", "content": "Good day."},
        {"role": "user", "content": "Name three rivers."},
    ]
    said = service.client().chat.completions.create(model="x", messages=messages, max_tokens=20)
    alone = engine.base.decode(list(engine.base.generate(engine.base.prompt(messages), max_tokens=20)))
    assert said.choices[0].message.content == alone
    assert said.usage.prompt_tokens == len(engine.base.prompt(messages))


def test_the_base_is_told_as_much_of_the_history_as_it_reads(service, engine, monkeypatch):
    monkeypatch.setattr(engine.base, "context", 8192)
    said = [text for number in range(30) for text in (f"What about number {number}?", f"A number like {number}.")]
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate([*said, "Hello?"])]
    answer = ask(service.client(), *said, "Hello?")
    assert answer.usage.prompt_tokens == len(engine.base.prompt(messages)) > 1_500
    answer = ask(service.client(), *said * 3, "Hello?")
    assert 3_500 < answer.usage.prompt_tokens <= PROMPT_TOKENS


def test_only_the_last_message_is_news(service):
    messages = [
        {"role": "system", "content": "My name is Assistant and I live in a server."},
        {"role": "user", "content": "My cat is called Tom."},
        {"role": "assistant", "content": "I like my cats."},
        {"role": "user", "content": [{"type": "text", "text": DOG}]},
    ]
    service.client().chat.completions.create(model="x", messages=messages, max_tokens=4)
    assert [slot.text for slot in service.space("ann").slots()] == [DOG]


def test_conversations_go_on_where_they_were(service):
    client, m = service.client(), service.space("ann")
    first = ask(client, "Hello there").choices[0].message.content
    ask(client, "Hello there", first, "And now?")  # by what was said
    ask(client, "Hello there", "something else", "And now?")  # another one
    assert sorted(session.turns for session in m.sessions()) == [1, 2]
    second = ask(client, "Said elsewhere", "I see.", "Hello there").choices[0].message.content
    ask(client, "Said elsewhere", "I see.", "Hello there", second, "And now?")  # what it knows of what was said decides
    ask(client, "Hello there", first, "And then?")
    assert sorted(session.turns for session in m.sessions()) == [1, 2, 3]
    ask(client, "Good morning", user="monday")  # by the field
    ask(client, "Good evening", extra_headers={"X-Mam-Session": "monday"})  # by the header
    monday = m.session("monday")
    assert [turn.text for turn in monday.turns()] == ["Good morning", "Good evening"]
    ask(client, "Once more", extra_headers={"X-Mam-Session": monday.id})
    assert len(monday.turns()) == 3


def test_a_name_is_not_what_was_said_first_in_another_conversation(service):
    client, m = service.client(), service.space("ann")
    ask(client, "Hello")
    ask(client, "Good day", user="Hello")
    assert sorted(session.turns for session in m.sessions()) == [1, 1]
    assert [session.title for session in m.sessions()] == ["Hello", "Hello"]
    ask(client, "And now?", user="Hello")
    assert sorted(session.turns for session in m.sessions()) == [1, 2]


def test_the_tokens_of_a_prompt_are_counted_as_they_are(service, engine, monkeypatch):
    """Also by a tokenizer that begins every text with a token of its own."""
    prompt = engine.base.prompt([{"role": "user", "content": "Hello"}])
    tokenizer = engine.base.tokenizer
    first = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 256)])
    monkeypatch.setattr(tokenizer.backend_tokenizer, "post_processor", first)
    assert engine.base.count("Hello") == 6
    assert ask(service.client(), "Hello").usage.prompt_tokens == len(prompt)


def test_requests_at_the_same_time_share_the_session_they_name(service):
    client = service.client()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: ask(client, f"Number {number}", user="new"), range(6)))
    assert [(session.title, session.turns) for session in service.space("ann").sessions()] == [("new", 6)]


def test_a_restart_forgets_no_conversation_and_no_deletion(tmp_path, engine):
    with serving.running(tmp_path, engine) as service:
        reply = ask(service.client(), DOG).choices[0].message.content
        ask(service.client(), DOG, reply, "And now?", stop=["e"])
        (slot,) = service.space("ann").slots()
    with serving.running(tmp_path, engine) as service:
        m = service.space("ann")
        m.delete(slot.id)
        for last in ("And then?", "And after that?"):
            ask(service.client(), DOG, reply, last)
        given = m.turns(m.sessions()[0].id)[-1].given
        assert [session.turns for session in m.sessions()] == [4] and last in given and "Rex" not in given
        ask(service.client(), DOG, "something else", last)
        assert [session.turns for session in m.sessions()] == [1, 4]
        ask(service.client(), DOG, reply, last, user="elsewhere")
        for session in m.sessions()[:2]:  # nor with another reply, nor in another conversation
            given = m.turns(session.id)[-1].given
            assert last in given and "Rex" not in given


def test_what_is_told_again_may_be_said_again(service):
    client, m = service.client(), service.space("ann")
    reply = ask(client, DOG).choices[0].message.content
    m.delete(m.slots()[0].id)
    ask(client, DOG)
    ask(client, DOG, reply, "And now?", user="new")
    assert DOG in m.session("new").turns()[-1].given


@pytest.mark.parametrize("what", ["slot", "session"])
def test_what_was_purged_does_not_come_back_with_the_history_a_client_sends(tmp_path, engine, what):
    with serving.running(tmp_path, engine) as service:
        client, m = service.client(), service.space("ann")
        reply = ask(client, DOG, user="talk").choices[0].message.content
        ask(client, DOG, reply, "Hello there", user="talk")
        asked = ask(client, "Name a river", user="other").choices[0].message.content
        m.purge(m.slots()[0].id) if what == "slot" else m.purge_session(m.session("talk").id)
    with serving.running(tmp_path, engine) as service:
        client, m = service.client(), service.space("ann")
        for told in (reply, "something else"):
            for name in ("talk", "elsewhere", None):
                ask(client, DOG, told, "Name a river", asked, "And now?", **({"user": name} if name else {}))
        turns = [session_turns[-1] for session_turns in (m.turns(session.id) for session in m.sessions())]
        assert all("Rex" not in turn.given for turn in turns)
        assert "Name a river" in m.session("elsewhere").turns()[-1].given  # what is known is told
        assert not m.slots(None)
    for file in (tmp_path / "data").rglob("*"):
        assert file.is_dir() or b"Rex" not in file.read_bytes()


def test_what_was_edited_does_not_live_on_in_the_history_a_client_sends(service):
    client, m = service.client(), service.space("ann")
    reply = ask(client, DOG, user="talk").choices[0].message.content
    (slot,) = m.slots()
    m.edit(slot.id, "My dog is called Max.")
    answer = client.chat.completions.with_raw_response.create(
        model="x",
        user="talk",
        max_tokens=4,
        messages=[
            {"role": "user", "content": DOG},
            {"role": "assistant", "content": reply},
            {"role": "user", "content": ASKED},
        ],
    )
    given = traced(service, answer)["given"]
    assert "Max" in given and "Rex" not in given


def test_users_are_apart(service):
    ann, bob = service.client("ann"), service.client("bob")
    answer = ann.chat.completions.with_raw_response.create(
        model="x", messages=[{"role": "user", "content": DOG}], max_tokens=4, user="shared"
    )
    ask(bob, "Hello", user="shared")
    assert not service.space("bob").slots() and len(service.space("bob").sessions()) == 1
    (slot,) = service.space("ann").slots()
    http = service.http("bob")
    assert http.get(answer.headers["x-mam-trace"]).status_code == 404
    for method, path in (
        ("GET", ""), ("GET", "/versions"), ("PATCH", ""), ("DELETE", ""), ("POST", "/restore"),
    ):  # fmt: skip
        body = {"text": "Mine now."} if method == "PATCH" else None
        assert http.request(method, f"/v1/memory/slots/{slot.id}{path}", json=body).status_code == 404
    assert http.post("/v1/memory/purge", json={"ids": [slot.id]}).status_code == 404
    assert slot.id not in http.get("/v1/memory/export?complete=true").text
    assert service.space("ann").slot(slot.id) == slot


def test_who_leaves_early_stops_the_reply_and_what_was_said_is_kept(service, engine, monkeypatch):
    generate, made = engine.base.generate, []

    def slow(*args, **kwargs):
        for token in generate(*args, **kwargs):
            made.append(token)
            time.sleep(0.02)
            yield token

    monkeypatch.setattr(engine.base, "generate", slow)
    monkeypatch.setattr(engine.base, "stop_ids", frozenset())
    with ask(service.client(), "Tell me a long story", max_tokens=300, stream=True) as stream:
        for _ in zip(range(3), stream, strict=False):
            pass
    m = service.space("ann")
    for _ in range(200):
        (turn,) = m.turns(m.sessions()[0].id)
        if turn.stopped:
            break
        time.sleep(0.02)
    assert turn.stopped and turn.reply and len(made) < 150


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_before_the_first_word_is_not_waited_for(tmp_path, stream):
    with chats.running() as upstream:
        engine = Engine(Endpoint(upstream.base, timeout=30), RuleMemory(), None)
        upstream.trouble = [chats.hangs(20)]
        with serving.running(tmp_path, engine) as service:
            with pytest.raises(openai.APITimeoutError):
                ask(service.client(timeout=0.5), DOG, stream=stream)
            assert upstream.left.wait(5)
        m = Space(Store(tmp_path / "data", "ann"), engine)
        assert [slot.text for slot in m.slots()] == [DOG] and m.turns(m.sessions()[0].id)[0].stopped
        m.close()


def test_models_are_named_but_no_paths(service, engine):
    client = service.client()
    (model,) = client.models.list().data
    assert model.id and "/" not in model.id and client.models.retrieve(model.id).id == model.id
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")
    assert ask(client, "Hello").model == model.id


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"messages": [{"role": "user", "content": "   "}]},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi"}]},
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
        {"n": 2},
        {"temperature": -1},
        {"top_p": 0},
        {"max_tokens": 0},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"stop": ["1", "2", "3", "4", "5"]},
        {"stop": "x" * 1_000_000},
        {"stream": True, "messages": [{"role": "system", "content": "x" * 3000}, {"role": "user", "content": "Hi"}]},
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(service, wrong):
    given = {"model": "x", "messages": [{"role": "user", "content": "Hi"}]} | wrong
    with pytest.raises(openai.BadRequestError) as caught:
        service.client().chat.completions.create(**given)
    message = caught.value.body["message"]
    assert message and "\n" not in message and "Traceback" not in message and caught.value.type


@pytest.mark.parametrize(("system", "text"), [(4_060, "Name three rivers."), (6_000, "Hi"), (2_000, "Again. " * 400)])
def test_a_system_message_does_not_cut_what_the_user_says(service, engine, monkeypatch, system, text):
    monkeypatch.setattr(engine.base, "context", 8192)
    messages = [{"role": "system", "content": "x" * system}, {"role": "user", "content": text}]
    with pytest.raises(openai.BadRequestError, match="shorten one of them"):
        service.client().chat.completions.create(model="x", messages=messages, max_tokens=4)
    messages[0]["content"] = "x" * 1_000
    assert service.client().chat.completions.create(model="x", messages=messages, max_tokens=4).choices


def test_neutral_settings_of_other_services_are_taken(service):
    answer = ask(
        service.client(), "Hi", n=1, frequency_penalty=0, presence_penalty=0.0, logit_bias={}, tools=[], store=False,
        response_format={"type": "text"}, temperature=0.7, top_p=0.9, seed=3, extra_body={"unheard_of": 1},
    )  # fmt: skip
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_a_reply_ends_at_a_stop_sequence_and_at_the_limit(service, engine, monkeypatch):
    monkeypatch.setattr(engine.base, "stop_ids", frozenset())
    client = service.client()
    whole = ask(client, "Hello", max_tokens=40)
    text = whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "length" and whole.usage.completion_tokens == 40
    cut = ask(client, "Hello", max_tokens=40, stop=[text[5:8], "never said"])
    assert cut.choices[0].message.content == text[: text.find(text[5:8])] and cut.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_a_stop_sequence_is_found_however_the_text_comes(size):
    text = "one two <end> three <en"
    for stops, wanted in ((["<end>"], "one two "), (["<", "<end>"], "one two "), (["nothing", "<ennd"], text)):
        until = Until(stops)
        passed = "".join(until.push(text[at : at + size]) for at in range(0, len(text), size)) + until.rest()
        assert passed == wanted


def test_messages_of_one_side_in_a_row_count_as_one():
    said = Said.of(
        [
            Sent(role="assistant", content="Welcome."),
            Sent(role="user", content="a"),
            Sent(role="user", content="b"),
            Sent(role="assistant", content="c"),
            Sent(role="developer", content="d"),
            Sent(role="user", content="e"),
        ]
    )
    assert said == Said("d", (("", "Welcome."), ("a\n\nb", "c")), "e")


def test_a_turn_is_known_again_by_what_was_said():
    now = datetime.now(UTC)
    known = Turn("one", "s", "Hello  there", "Good day. And more.", now)
    said = Said("", (("Hello there", "Good day."), ("Hello there", "Something else"), ("Bye", "Good day.")), "x")
    first, second, third = said.turns([known])
    assert first is known and second.id != "one" and (third.text, third.reply) == ("Bye", "Good day.")


def test_no_traceback_reaches_a_client(service, engine, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise RuntimeError("secret detail")

    client = service.client()
    ask(client, DOG)
    monkeypatch.setattr(engine.memory, "read", broken)
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, ASKED)
    with pytest.raises(openai.InternalServerError):
        ask(client, ASKED, stream=True)
    answer = service.http().post("/v1/memory/read", json={"query": "x"})
    assert answer.status_code == 500
    for text in (str(caught.value), answer.text):
        assert "secret" not in text and "Traceback" not in text and "log" in text
    assert "secret detail" in caplog.text


def test_a_failure_in_mid_stream_is_told_to_the_client(service, engine, monkeypatch):
    generate = engine.base.generate

    def breaking(*args, **kwargs):
        yield from zip_first(generate(*args, **kwargs), 3)
        raise RuntimeError("secret detail")

    def zip_first(tokens, count):
        for _, token in zip(range(count), tokens, strict=False):
            yield token

    monkeypatch.setattr(engine.base, "generate", breaking)
    monkeypatch.setattr(engine.base, "stop_ids", frozenset())
    pieces = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in ask(service.client(), "Tell me more", max_tokens=50, stream=True):
            pieces.append(chunk.choices[0].delta.content)
    assert any(pieces) and "secret" not in str(caught.value)
    m = service.space("ann")
    assert m.turns(m.sessions()[0].id)[0].text == "Tell me more"


def test_many_at_once(service):
    told = {}

    def talk(name: str, number: int) -> None:
        answer = ask(service.client(name), f"My friend number {number} is called F{number}.", user=f"{number}")
        told[name, number] = answer.choices[0].message.content

    jobs = [threading.Thread(target=talk, args=(name, number)) for name in ("ann", "bob") for number in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert len(told) == 8
    for name in ("ann", "bob"):
        assert len(service.space(name).sessions()) == 4
        assert len(service.space(name).slots()) == 4


def test_frames_are_as_the_protocol_wants_them(service):
    body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True, "max_tokens": 3}
    answer = service.http().post("/v1/chat/completions", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *frames, last, rest = answer.text.split("\n\n")
    assert last == "data: [DONE]" and rest == ""
    assert all(json.loads(frame.removeprefix("data: "))["object"] == "chat.completion.chunk" for frame in frames)


def test_a_base_on_another_server_is_passed_through(tmp_path):
    """Sixteen at once are as quick as one: the other server has them all at the same time."""
    with chats.running() as upstream:
        upstream.pause = 0.1
        engine = Engine(Endpoint(upstream.base), RuleMemory(), None)
        with serving.running(tmp_path, engine) as service:
            client = service.client()
            ask(client, DOG)
            assert ask(client, ASKED, max_tokens=64).choices[0].message.content == f"You told me: {DOG}"
            assert client.models.list().data[0].id == chats.MODEL
            started, seconds = time.monotonic(), []
            with ThreadPoolExecutor(16) as pool:
                for _ in pool.map(lambda n: ask(client, f"Say these words number {n} again", max_tokens=64), range(16)):
                    seconds.append(time.monotonic() - started)
            assert len(seconds) == 16 and seconds[-1] < 16 * 7 * upstream.pause / 2


def test_why_a_reply_ended_is_passed_on(tmp_path_factory, service, engine, monkeypatch):
    def cut(handler):
        handler.begin()
        handler.chunk({"content": "Well,"})
        handler.chunk({}, "length")
        handler.event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 17, "total_tokens": 26}})
        handler.write(b"")

    with chats.running() as upstream:
        behind = Engine(Endpoint(upstream.base), RuleMemory(), None)
        with serving.running(tmp_path_factory.mktemp("behind"), behind) as other:
            upstream.trouble.append(cut)
            reply = ask(other.client(), "Hello", max_tokens=50)
            assert reply.choices[0].finish_reason == "length" and reply.usage.completion_tokens == 17
            reply = ask(other.client(), "a b", max_tokens=4)  # four pieces, and the server says that it is done
            assert reply.choices[0].finish_reason == "stop"
    monkeypatch.setattr(engine.base, "stop_ids", frozenset())
    reply = ask(service.client(), "x" * 300, max_tokens=400)  # of a context of 512
    assert reply.choices[0].finish_reason == "length" and reply.usage.completion_tokens < 400


def test_where_the_base_and_the_memory_are_is_nobodys_concern(tmp_path, caplog, monkeypatch):
    with chats.running() as upstream:
        engine = Engine(Endpoint(upstream.base), RuleMemory(), None)
        with serving.running(tmp_path, engine) as service:
            client, m = service.client(), service.space("ann")
            upstream.trouble.append(lambda handler: handler.error(403, "not today"))
            with pytest.raises(openai.APIStatusError) as caught:
                ask(client, "Once more")
            assert caught.value.status_code == 502
            upstream.trouble.append(chats.dies(after=1))
            with pytest.raises(openai.APIError) as broken:
                list(ask(client, "Once more", stream=True))

            def full(*args, **how):
                raise StoreError(f"The disk of {m.store.place} is full; free space, repeat.")

            monkeypatch.setattr(m, "find", full)
            answer = service.http().get("/v1/memory/slots")
            assert answer.status_code == 503
            for said in (caught.value.message, broken.value.message, answer.text):
                assert not any(word in said for word in (upstream.url, "not today", "MAM_", "disk", str(tmp_path)))
            assert "not today" in caplog.text and upstream.url in caplog.text and "disk" in caplog.text
