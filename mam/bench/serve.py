"""serve: tokens a second of one client and of sixteen at once, over HTTP, with every part of a turn in the way.

Each client is a user with a key and a memory of their own and asks in turn what the memory holds and what it does not.
One client alone, sixteen whose replies go through the base together, and sixteen who take turns token by token are
measured one after the other, several rounds; every figure is a median over the rounds. Abstentions make no tokens; they
are counted, and their time is not left out. A base that cannot be batched here is measured as it is: one on a server
has a batch of its own there.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from tqdm import tqdm

from mam import lives as generator
from mam.batch import Batch
from mam.bench import common
from mam.bench.scoring import share, spread
from mam.reader import ABSTAIN
from mam.serve.app import application, background
from mam.serve.guard import Limits
from mam.serve.keys import Keys, new_key
from mam.space import Space
from mam.store import Store

CLIENTS = 16
ROUNDS = 3
ASKED = 4  # messages of each client in a round
REPLY = 64  # tokens at most
NO_LIMITS = Limits(rate=10**9, tokens=10**9)


@dataclass(frozen=True)
class Reply:
    text: str
    tokens: int
    first: float  # seconds to the first piece


def run(world: common.World, settings: common.Settings) -> dict:
    clients, rounds = settings.capped(CLIENTS), settings.capped(ROUNDS)
    engine, batch = world.engine, Batch(world.base, world.engine.lock) if Batch.fits(world.base) else None
    rates, first, said = defaultdict(list), defaultdict(list), defaultdict(dict)
    with common.temporary() as folder:
        app, keys = _application(world, folder, clients)
        asked = [_prompts(app.app.state.spaces.of(name), number) for number, name in enumerate(keys)]
        ways = {"one": (1, batch), "many": (clients, batch)} | ({"many_in_turns": (clients, None)} if batch else {})
        try:
            with background(app) as address, tqdm(total=rounds * len(ways), desc="serve", dynamic_ncols=True) as bar:
                _talk(address, [*keys.values()][:1], asked)  # whatever is made only once
                for _ in range(rounds):
                    for way, (count, together) in ways.items():
                        engine.batch = together
                        seconds, replies = _talk(address, [*keys.values()][:count], asked)
                        rates[way].append(sum(reply.tokens for reply in replies.values()) / seconds)
                        first[way] += [reply.first for reply in replies.values()]
                        said[way] |= {at: reply.text for at, reply in replies.items()}
                        bar.update()
        finally:
            engine.batch = None
            if batch:
                batch.close()
    gains = {way: round(float(np.median(values) / np.median(rates["one"])), 2) for way, values in rates.items()}
    return {
        "batching_gain": gains["many"],
        "gain_in_turns": gains.get("many_in_turns"),
        "identical": share([said["many"][at] == text for at, text in said["many_in_turns"].items()]),
        "batched": batch is not None,
        "clients": clients,
        "replies": len(said["many"]),
        "abstained": sum(text.startswith(ABSTAIN) for text in said["many"].values()),
        "tokens_per_second": {way: spread(values, digits=1) for way, values in rates.items()},
        "seconds_to_first_token": {way: spread(values) for way, values in first.items()},
    }


def _application(world: common.World, folder: Path, clients: int):
    """The server, and the keys of its users by name."""
    keys = {name: new_key(folder / "keys", name) for name in (f"client{number}" for number in range(clients))}

    def open_space(user: str) -> Space:
        return Space(Store(folder / "data", user), world.engine)

    return application(open_space, keys=Keys(folder / "keys"), limits=NO_LIMITS), keys


def _prompts(space: Space, number: int) -> list[str]:
    """Tell a client's memory a life; returns what the client asks: something of it, something general, in turn."""
    life = common.life(common.Settings(), 10_000 + number)
    for fact in life.facts:
        space.add(fact.text)
    personal = [question.text for question in life.questions if question.type == "single"]
    general = generator.general_prompts("test")[number * ASKED :]
    return [(personal, general)[(at + number) % 2][at // 2] for at in range(ASKED)]


def _talk(address: str, keys: Sequence[str], asked: Sequence[Sequence[str]]) -> tuple[float, dict]:
    """Every client asks all its prompts, at the same time as the others: (seconds, replies by client and prompt)."""

    def one(number: int) -> dict:
        headers = {"Authorization": f"Bearer {keys[number]}"}
        with httpx.Client(base_url=address, headers=headers, timeout=None, trust_env=False) as client:
            return {(number, at): _ask(client, text) for at, text in enumerate(asked[number])}

    start, replies = time.perf_counter(), {}
    with ThreadPoolExecutor(len(keys)) as pool:
        for part in pool.map(one, range(len(keys))):
            replies |= part
    return time.perf_counter() - start, replies


def _ask(client: httpx.Client, text: str) -> Reply:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": REPLY, "stream": True}
    body["stream_options"] = {"include_usage": True}
    start, first, pieces, tokens = time.perf_counter(), 0.0, [], 0
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            if choices := chunk["choices"]:
                first = first or time.perf_counter() - start
                pieces.append(choices[0]["delta"].get("content", ""))
            else:
                tokens = chunk["usage"]["completion_tokens"]
    return Reply("".join(pieces), tokens, first)
