"""A running server of the memory, with keys for Ann and Bob; its fixture is in conftest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

os.environ["NO_PROXY"] = "127.0.0.1,localhost"

import httpx
import openai

from mam.engine import Engine
from mam.serve.app import application, background
from mam.serve.guard import Limits
from mam.serve.keys import Keys, new_key
from mam.space import Space
from mam.store import Store


@contextmanager
def running(folder: Path, engine: Engine, limits: Limits | None = None, names=("ann", "bob")) -> Iterator:
    """A server with keys for these users, on a free port; `keys` by name. Without names it has no keys."""
    file = folder / "keys"
    keys = {name: new_key(file, name) for name in names}

    def open_space(user: str) -> Space:
        return Space(Store(folder / "data", user), engine)

    app = application(open_space, keys=Keys(file) if keys else None, local="ann", limits=limits)
    made = []
    with background(app) as address:

        def http(name: str | None = "ann", **how) -> httpx.Client:
            headers = {"Authorization": f"Bearer {keys[name]}"} if name in keys else {}
            made.append(httpx.Client(base_url=address, headers=headers, timeout=60, **how))
            return made[-1]

        def client(name: str = "ann", **how) -> openai.OpenAI:
            made.append(openai.OpenAI(base_url=f"{address}/v1", api_key=keys.get(name, "none"), max_retries=0, **how))
            return made[-1]

        try:
            yield SimpleNamespace(
                url=address, keys=keys, file=file, http=http, client=client, space=app.app.state.spaces.of
            )
        finally:
            for each in made:
                each.close()


def ask(client: openai.OpenAI, *said: str, **how):
    """Say something; `said` are user and assistant in turns."""
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
    return client.chat.completions.create(model="gpt-4o", messages=messages, **({"max_tokens": 8} | how))
