"""The memory model: one object that holds every trained part, and its files.

    encoder ─┬─► write gate          worth keeping?
             ├─► reader, first look  what is near?
             └─► keys                one vector per slot
    reranker                         the reader's second look: what helps to answer? or nothing?
    relation head                    new, duplicate or update?
    attachments                      one integrator per base

Files of a saved memory model (a folder):

    memory.json            settings, thresholds, sizes
    memory.safetensors     encoder updates, gate, reader
    reranker.safetensors, relation.safetensors      pair encoder updates and head of each
    attachments/NAME.json, NAME.safetensors     prefix and adapters for the base whose fingerprint the JSON holds
    README.md              the model card
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mam import device as _device
from mam.base import Base
from mam.encoder import ALL, Encoder
from mam.errors import InputError, UnattachedError, WeightsError
from mam.gate import Gate, surface
from mam.index import SlotIndex
from mam.integrator import Integrator, IntegratorConfig
from mam.packed import pack
from mam.reader import Reader, Reading, Thresholds
from mam.relation import Relation, RelationHead
from mam.reranker import Reranker
from mam.values import Candidate, Slot

SHIPPED = Path(__file__).parent.parent / "assets" / "memory"
FORMAT = 1
PARTS = ("memory", "reranker", "relation")
MAX_K = 64
_AGAIN = "install mam again or train it: python -m mam train"
_TYPES = {"int": int, "float": (int, float), "str": str, "bool": bool}  # of settings, by the names of their types


@dataclass(frozen=True)
class Settings:
    """Sizes and thresholds, saved in memory.json."""

    rank: int = 16
    dim: int = 256
    gate_threshold: float = 0.5
    relation_threshold: float = 0.5
    reading: Thresholds = field(default_factory=Thresholds)

    @property
    def thresholds(self) -> dict[str, float]:
        """What decides in a turn, 0..1; a turn keeps them in its trace."""
        names = {"read": self.reading.read, "asked": self.reading.asked, "given": self.reading.given}
        return {"gate": self.gate_threshold, "relation": self.relation_threshold, **names}


class MemoryModel(nn.Module):
    """Encoder, write gate, relation head and reader, ready to use; `attach` adds the integrator of a base."""

    def __init__(
        self,
        settings: Settings = Settings(),
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.settings = settings
        self.device = torch.device(device)
        self.folder: Path | None = None
        self.encoder = Encoder(settings.rank, device, dtype)
        self.gate_head = Gate(self.encoder.width).to(device)
        self.reader = Reader(self.encoder.width, settings.dim).to(device)
        self.reranker = Reranker(Encoder(settings.rank, device, dtype, ALL)).to(device)
        self.relation = RelationHead(Encoder(settings.rank, device, dtype, ALL)).to(device)
        self.fingerprint = ""

    @property
    def dim(self) -> int:
        return self.settings.dim

    @property
    def gate_threshold(self) -> float:
        return self.settings.gate_threshold

    # ---- what a turn asks of it ----------------------------------------------------------------------------

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encoder vectors of texts: (texts, width) float32."""
        return self.encoder.encode(texts)

    @torch.inference_mode()
    def keys(self, hidden: np.ndarray) -> np.ndarray:
        """Slot keys (n, dim), float32 unit vectors, of encoder vectors (n, width)."""
        return self.reader.keys(torch.from_numpy(hidden).to(self.device)).cpu().numpy()

    @torch.inference_mode()
    def gate(
        self,
        candidates: Sequence[Candidate],
        hidden: np.ndarray,
        context_hidden: np.ndarray,
    ) -> list[float]:
        """Probability that each candidate is worth keeping; vectors (n, width) of their texts and contexts."""
        if not candidates:
            return []
        present = torch.tensor([[bool(c.context)] for c in candidates])
        contexts = torch.from_numpy(context_hidden) * present
        inputs = (torch.from_numpy(hidden), contexts, surface(candidates))
        return torch.sigmoid(self.gate_head(*(x.to(self.device) for x in inputs))).tolist()

    def relate(self, text: str, near: Sequence[Slot]) -> Relation:
        """What the new `text` is to the nearest active slots."""
        return self.relation.judge(text, near, self.settings.relation_threshold)

    def read(
        self,
        query: str,
        hidden: np.ndarray,
        index: SlotIndex,
        k: int = 8,
        now: datetime | None = None,
    ) -> Reading:
        """Weigh all slots of `index` for `query`, whose encoder vector is `hidden` (width,).

        Raises InputError for a `k` out of 1..64.
        """
        if not 1 <= k <= MAX_K:
            raise InputError(f"k is {k}, but a turn can read 1 to {MAX_K} slots.")
        now = now or datetime.now(UTC)
        return self.reader.read(query, hidden, index, k, now, self.settings.reading, self.reranker.judge)

    # ---- attachments ---------------------------------------------------------------------------------------

    def attach(self, base: Base) -> Integrator:
        """The integrator trained for `base`. Raises UnattachedError when there is none, WeightsError when damaged."""
        folder = (self.folder or SHIPPED) / "attachments"
        for file in sorted(folder.glob("*.json")):
            stored = _json(file)
            if stored.get("base") == base.fingerprint:
                integrator = Integrator(base, _made(IntegratorConfig, stored, file))
                _load(integrator, file.with_suffix(".safetensors"))
                integrator.adapters.freeze()
                return integrator.requires_grad_(False)
        raise UnattachedError(
            f"This memory model has no attachment for the base {base.id};"
            f" train one: python -m mam attach --base {base.id}"
        )

    def save_attachment(self, integrator: Integrator, name: str, path: Path | str | None = None) -> Path:
        """Write an attachment beside the memory model; returns its weights file.

        It takes the place of the one that its base has there; a name that another base's has is made longer.
        """
        folder = Path(path or self.folder or SHIPPED) / "attachments"
        folder.mkdir(parents=True, exist_ok=True)
        bases = {file.stem: _json(file).get("base") for file in folder.glob("*.json")}
        own = [held for held, base in bases.items() if base == integrator.config.base]
        name = own[0] if own else f"{name}-{integrator.config.base}" if name in bases else name
        _save(integrator, folder / f"{name}.safetensors")
        _write_json(folder / f"{name}.json", integrator.settings)
        return folder / f"{name}.safetensors"

    # ---- files ---------------------------------------------------------------------------------------------

    def save(self, path: Path | str, parts: Collection[str] = PARTS) -> None:
        """Write settings and trained weights (bfloat16) of `parts` into the folder `path`; the others' files stay."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        for part in parts:
            _save(self.part(part), folder / f"{part}.safetensors")
        _write_json(folder / "memory.json", {"format": FORMAT, **asdict(self.settings)})
        self.folder, self.fingerprint = folder, _fingerprint(folder)

    @classmethod
    def load(
        cls, path: Path | str | None = None, device: str | torch.device = "cpu", parts: Collection[str] = PARTS
    ) -> MemoryModel:
        """Read a saved memory model, by default the shipped one; parts that are not named are new and untrained.

        Raises WeightsError when it is missing or damaged.
        """
        folder = Path(path) if path else SHIPPED
        settings = settings_of(folder)
        device = _device.pick(str(device))
        model = cls(settings, device, _device.precision(device))
        for part in parts:
            _load(model.part(part), folder / f"{part}.safetensors")
            model.part(part).eval().requires_grad_(False)
            encoder = model.encoder if part == "memory" else model.part(part).encoder
            encoder.fold()
            pack(encoder.network)
        model.folder, model.fingerprint = folder, _fingerprint(folder)
        return model

    def part(self, name: str) -> nn.Module:
        """What the file NAME.safetensors holds."""
        if name == "memory":
            return nn.ModuleDict({"encoder": self.encoder, "gate": self.gate_head, "reader": self.reader})
        return {"reranker": self.reranker, "relation": self.relation}[name]


def trained(module: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of `module` that this project trained: everything but the fetched encoder network."""
    return {name: t for name, t in module.state_dict().items() if "network." not in name}


def _save(module: nn.Module, file: Path) -> None:
    tensors = {name: t.to("cpu", torch.bfloat16).contiguous() for name, t in trained(module).items()}
    temporary = file.with_suffix(".part")
    save_file(tensors, temporary)
    temporary.chmod(0o644)  # safetensors writes for the owner alone
    temporary.replace(file)


def _load(module: nn.Module, file: Path) -> None:
    try:
        stored = load_file(file)
    except FileNotFoundError as error:
        raise WeightsError(f"{file} is missing; {_AGAIN}") from error
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file} is damaged; {_AGAIN}") from error
    wanted = trained(module)
    if stored.keys() != wanted.keys() or any(stored[n].shape != wanted[n].shape for n in wanted):
        raise WeightsError(f"{file} holds the weights of another model than its settings say.")
    module.load_state_dict(stored, strict=False)


def settings_of(folder: Path) -> Settings:
    """Of the memory model in `folder`. Raises WeightsError where they are missing or damaged.

    Also where one of them is missing: weights with a threshold that they were not tuned with go wrong.
    """
    file = folder / "memory.json"
    stored = _json(file)
    if stored.pop("format", None) != FORMAT:
        raise WeightsError(f"{folder} holds a memory model of another format; this mam reads format {FORMAT}.")
    if missing := {f.name for f in fields(Settings)} - stored.keys():
        raise WeightsError(f"{file} is damaged (it lacks {', '.join(sorted(missing))}); {_AGAIN}")
    reading = stored["reading"]
    if not isinstance(reading, dict):
        raise WeightsError(f"{file} is damaged (reading is {reading!r}); {_AGAIN}")
    return _made(Settings, stored | {"reading": _made(Thresholds, reading, file)}, file)


def _made(kind: type, stored: dict, file: Path):
    """The dataclass `kind` with what `file` says. Raises WeightsError for what it does not know or cannot take."""
    types = {f.name: _TYPES.get(f.type, object) for f in fields(kind)}
    for name, value in stored.items():
        if name not in types:
            raise WeightsError(f"{file} is damaged or of a later version ({name!r} is not known); {_AGAIN}")
        wrong = not isinstance(value, types[name]) or (isinstance(value, bool) and types[name] is not bool)
        if wrong or (types[name] is int and value < 1):
            raise WeightsError(f"{file} is damaged ({name} is {value!r}); {_AGAIN}")
    return kind(**stored)


def _json(file: Path) -> dict:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(stored, dict):
            raise ValueError("it holds no settings")
        return stored
    except FileNotFoundError as error:
        raise WeightsError(f"{file} is missing; {_AGAIN}") from error
    except (ValueError, OSError) as error:
        raise WeightsError(f"{file} is damaged ({error}); {_AGAIN}") from error


def _write_json(file: Path, data: dict) -> None:
    temporary = file.with_suffix(".part")
    temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    temporary.replace(file)


def _fingerprint(folder: Path) -> str:
    """Of what keys depend on: the encoder's and reader's weights."""
    return hashlib.sha256((folder / "memory.safetensors").read_bytes()).hexdigest()[:16]
