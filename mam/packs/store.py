"""The files of a pack: one folder, JSON and safetensors, every file that answers depend on known by its hash.

    pack.json                   settings: base, generator, seed, documents of a shard
    README.md                   the model card
    shards/000/documents.json   sentences of its documents
               memo.jsonl       what generator and verification said (see `memo`)
               reflections.json, keys.safetensors      what it is trained on, and what questions are routed by
               training/        checkpoints, while it is trained; afterwards training.csv has the curves
               adapter.safetensors
               shard.json       written last: hashes of documents, training set and files
    merged.json, merged.safetensors      one adapter of several shards
    deletions.json      certificates of what was deleted; they stay where it was done, and are not handed on

A shard is ready when its shard.json speaks of the documents that are there now, and its files are those it speaks of.
So taking a document out of documents.json is all it takes for the shard to answer nothing any more. A folder without
documents.json is none. What becomes a pack as a whole, or is one no more, lies in `scratch`, where nobody sees it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout
from torch import Tensor

from mam.database import data_folder, file_name
from mam.errors import ConflictError, InputError, MissingError, WeightsError
from mam.packs.files import PART, digest, load_tensors, read_json, save_tensors, used, write_json
from mam.packs.values import (
    DAMAGED,
    READY,
    WAITING,
    Certificate,
    Document,
    Evidence,
    Reflection,
    Sentence,
    Shard,
    Source,
)
from mam.residue import PACKS
from mam.values import Check, Searched

FORMAT = 1
NAME = re.compile(r"[\w][\w .-]{0,63}")
LONGEST_NAME = 200  # bytes: with what is added to it, the name of a file has 255 at most
HASH = re.compile(r"[0-9a-f]{64}")
ADAPTER, KEYS = "adapter.safetensors", "keys.safetensors"
DELETIONS, CERTIFICATES = "deletions.json", 100  # of so many deletions
LARGEST_FIGURE = 1e9
PATIENCE = 30  # seconds that somebody else's import or removal is waited for


@dataclass(frozen=True)
class Settings:
    """What a pack is made with; with its documents, all that its weights depend on."""

    base: str  # id of the memory LM
    fingerprint: str  # and of its weights
    generator: str  # "trained", or the id of a base or endpoint
    seed: int = 0
    shard: int = 4  # documents of a shard at most
    epochs: int = 12
    rate: float = 1e-3

    def __post_init__(self):
        """Raises InputError for what nobody can mean."""
        bounds = {"seed": (0, 2**31), "shard": (1, 1000), "epochs": (1, 1000)}
        for name, (least, most) in bounds.items():
            number = getattr(self, name)
            if not isinstance(number, int) or not least <= number <= most:
                raise InputError(f"{name} is {number}; it must be from {least} to {most}.")
        if not isinstance(self.rate, float) or not 0 < self.rate < 1:
            raise InputError(f"rate is {self.rate}; it must be above 0 and below 1.")
        if not all(isinstance(text, str) for text in (self.base, self.fingerprint, self.generator)):
            raise InputError("base, fingerprint and generator must be texts.")


def home(path: str | os.PathLike | None, user: str) -> Path:
    """The folder of a user's packs."""
    return data_folder(path) / PACKS / Path(file_name(user)).stem.removeprefix("memory-")


class PackStore:
    """A pack's folder. Raises InputError for a bad name, MissingError when it is wanted and not there."""

    def __init__(self, home: Path, name: str):
        if not is_name(name):
            raise InputError("The name of a pack has 1 to 64 letters, digits, blanks, dots or dashes.")
        self.name, self.folder = name, home / name

    @property
    def exists(self) -> bool:
        return (self.folder / "pack.json").is_file()

    def wanted(self) -> PackStore:
        if not self.exists:
            raise MissingError(f"There is no pack {self.name!r}.")
        return self

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else changes the pack meanwhile. Raises ConflictError at once if somebody does.

        Raises StoreError for whatever files and disks refuse inside.
        """
        try:
            with used(f"the pack {self.name}"):
                self.folder.parent.mkdir(parents=True, exist_ok=True)
                with FileLock(self.folder.with_name(f".{self.name}.lock"), timeout=0):
                    yield
        except Timeout as error:
            raise ConflictError(
                f"The pack {self.name} is being built or changed; wait for that, then repeat."
            ) from error

    # ---- settings ------------------------------------------------------------------------------------------------

    def settings(self) -> Settings:
        stored = read_json(self.wanted().folder / "pack.json")
        if stored.pop("format", None) != FORMAT:
            raise WeightsError(f"The pack {self.name} has another format; this mam reads format {FORMAT}.")
        try:
            return Settings(**stored)
        except TypeError as error:
            raise WeightsError(f"The settings of the pack {self.name} are damaged; import it again.") from error

    def set_settings(self, settings: Settings) -> None:
        write_json(self.folder / "pack.json", {"format": FORMAT, **asdict(settings)})

    def remove(self) -> None:
        with scratch(self.folder.parent) as folder:  # goes with it, at the latest when it is next used
            self.folder.replace(folder / "pack")

    # ---- shards --------------------------------------------------------------------------------------------------

    def shard_ids(self) -> list[str]:
        return sorted(file.parent.name for file in self.folder.glob("shards/[0-9][0-9][0-9]*/documents.json"))

    def shard_folder(self, id: str) -> Path:
        return self.folder / "shards" / id

    def documents(self, id: str) -> list[Document]:
        stored = read_json(self.shard_folder(id) / "documents.json")
        try:
            return [
                Document(name, tuple(_checked(Sentence(**sentence)) for sentence in sentences))
                for name, sentences in stored.items()
            ]
        except TypeError as error:
            raise WeightsError(f"The documents of the pack {self.name} are damaged; import it again.") from error

    def set_documents(self, id: str, documents: Sequence[Document]) -> None:
        stored = {d.name: [asdict(sentence) for sentence in d.sentences] for d in documents}
        write_json(self.shard_folder(id) / "documents.json", stored)

    def all_documents(self) -> list[Document]:
        return [document for id in self.shard_ids() for document in self.documents(id)]

    def reflections(self, id: str) -> list[Reflection]:
        """Those of a shard; none while there are none."""
        file = self.shard_folder(id) / "reflections.json"
        if not file.exists():
            return []
        try:
            return [
                _checked(Reflection(**{**r, "sources": tuple(_checked(Source(**s)) for s in r["sources"])}))
                for r in read_json(file)["reflections"]
            ]
        except (TypeError, KeyError) as error:
            raise WeightsError(f"The reflections of the pack {self.name} are damaged; build it again.") from error

    def set_reflections(self, id: str, reflections: Sequence[Reflection]) -> None:
        write_json(self.shard_folder(id) / "reflections.json", {"reflections": [asdict(r) for r in reflections]})

    def finish(self, id: str, shard: Shard, adapter: dict[str, Tensor], keys: dict[str, Tensor], memory: str) -> Shard:
        """The shard is ready from now on. keys: of its questions, by the memory model with the fingerprint `memory`."""
        folder = self.shard_folder(id)
        sums = {
            ADAPTER: save_tensors(folder / ADAPTER, adapter),
            KEYS: save_tensors(folder / KEYS, keys),
        }
        stored = asdict(shard) | {"adapter": sums[ADAPTER], "files": sums, "memory": memory}
        del stored["state"]
        write_json(folder / "shard.json", stored)
        return self.shard(id)

    def shard(self, id: str) -> Shard:
        """The shard as it is now; only one whose state is "ready" may answer."""
        current = {document.name: document_hash(document) for document in self.documents(id)}
        try:
            stored = self._stored(id)
        except WeightsError:
            return Shard(id, WAITING, current)
        if stored["documents"] != current:
            return Shard(id, WAITING, current)
        fields = {
            name: stored[name] for name in ("documents", "training", "adapter", "reflections", "figures", "seconds")
        }
        missing = [name for name in stored["files"] if not (self.shard_folder(id) / name).is_file()]
        return Shard(id, DAMAGED if missing else READY, **fields)

    def mark(self, id: str) -> tuple | None:
        """Changes whenever the shard may have; None when it cannot be ready. Three looks at the disk, nothing more."""
        names = ("documents.json", "shard.json", ADAPTER)
        try:
            files = [(self.shard_folder(id) / name).stat() for name in names]
        except OSError:
            return None
        return tuple((file.st_mtime_ns, file.st_ino, file.st_size) for file in files)

    def adapter(self, id: str) -> dict[str, Tensor]:
        """Checked against its hash. Raises WeightsError."""
        return self._tensors(id, ADAPTER)

    def keys(self, id: str) -> tuple[dict[str, Tensor], str]:
        """(what questions are routed by, fingerprint of the memory model that it is of), checked."""
        return self._tensors(id, KEYS), self._stored(id)["memory"]

    def set_keys(self, id: str, keys: dict[str, Tensor], memory: str) -> None:
        """The same of another memory model."""
        stored = self._stored(id)
        stored["files"][KEYS] = save_tensors(self.shard_folder(id) / KEYS, keys)
        write_json(self.shard_folder(id) / "shard.json", stored | {"memory": memory})

    def curves(self, id: str) -> Path:
        """The table that training writes as it goes, wherever it is now; it need not be there."""
        begun = sorted((self.shard_folder(id) / "training").glob("*/adapter.csv"))
        return begun[-1] if begun else self.shard_folder(id) / "training.csv"

    def discard(self, id: str, *, keep_checkpoints: bool = False) -> None:
        """Everything that a shard has learned, so that it answers nothing; its documents and its memo stay."""
        folder = self.shard_folder(id)
        for name in ("shard.json", ADAPTER, KEYS, "training.csv"):
            (folder / name).unlink(missing_ok=True)
        for part in (*folder.glob(f"*{PART}"), *self.folder.glob(f"*{PART}")):  # of who was killed while writing
            part.unlink()
        if not keep_checkpoints:
            shutil.rmtree(folder / "training", ignore_errors=True)
        self.discard_merged()

    def remove_shard(self, id: str) -> None:
        self.discard(id)
        folder = self.shard_folder(id)
        for file in folder.iterdir():
            if file.name != "documents.json":
                file.unlink()
        (folder / "documents.json").unlink()  # last: until then there is a shard, and its removal is repeated
        folder.rmdir()

    def shards(self) -> list[Shard]:
        return [self.shard(id) for id in self.shard_ids()]

    def evidence(self) -> list[Evidence]:
        """What the weights of every ready shard are made of; damaged ones cannot answer, and are left out."""
        found = []
        for shard in self.shards():
            if shard.state == READY:
                try:
                    self.adapter(shard.id)  # raises if it is not the one of the hash
                except WeightsError:
                    continue
                found.append(Evidence(shard.id, shard.documents, shard.training, shard.adapter))
        return found

    def _tensors(self, id: str, name: str) -> dict[str, Tensor]:
        return load_tensors(self.shard_folder(id) / name, self._stored(id)["files"][name])

    def _stored(self, id: str) -> dict:
        stored = read_json(self.shard_folder(id) / "shard.json")
        if not _is_whole(stored):
            raise WeightsError(f"Shard {id} of the pack {self.name} is damaged; build the pack again.")
        return stored

    # ---- deletions -----------------------------------------------------------------------------------------------

    def certificates(self) -> list[Certificate]:
        """As they were written; none where they cannot be read any more, for the pack is what it is without them."""
        try:
            stored = read_json(self.folder / DELETIONS)["certificates"]
            return [_certificate(one) for one in stored]
        except (WeightsError, KeyError, TypeError, ValueError):
            return []

    def set_certificates(self, certificates: Sequence[Certificate]) -> None:
        """The last ones of these are kept."""
        stored = [asdict(one) | {"at": one.at.isoformat()} for one in certificates[-CERTIFICATES:]]
        write_json(self.folder / DELETIONS, {"certificates": stored})

    # ---- merged --------------------------------------------------------------------------------------------------

    def set_merged(self, adapter: dict[str, Tensor], method: str, shards: Sequence[Shard]) -> None:
        sha256 = save_tensors(self.folder / "merged.safetensors", adapter)
        of = {shard.id: shard.adapter for shard in shards}
        write_json(self.folder / "merged.json", {"method": method, "adapter": sha256, "shards": of})

    def merged(self) -> dict | None:
        """{"method", "adapter": sha256, "shards": {id: sha256}}; None without one, or if it is not of these shards."""
        try:
            stored = read_json(self.folder / "merged.json")
        except WeightsError:
            return None
        current = {shard.id: shard.adapter for shard in self.shards() if shard.state == READY}
        whole = isinstance(stored.get("adapter"), str) and isinstance(stored.get("method"), str)
        return stored if whole and stored.get("shards") == current else None

    def merged_adapter(self) -> dict[str, Tensor]:
        return load_tensors(self.folder / "merged.safetensors", read_json(self.folder / "merged.json")["adapter"])

    def hashes(self) -> list[str]:
        """sha256 of every adapter there is, whatever is damaged."""
        return [hashlib.sha256(file.read_bytes()).hexdigest() for file in self.folder.glob("**/*.safetensors")]

    def discard_merged(self) -> None:
        for name in ("merged.json", "merged.safetensors"):
            (self.folder / name).unlink(missing_ok=True)


@contextmanager
def scratch(home: Path) -> Iterator[Path]:
    """An empty folder among the packs of a user, for one at a time; what is left in it is gone afterwards.

    Raises ConflictError when somebody else does not give it back, StoreError for what files and disks refuse inside.
    """
    try:
        with used("packs"):
            home.mkdir(parents=True, exist_ok=True)
            with FileLock(home / ".scratch.lock", timeout=PATIENCE):
                folder = home / ".scratch"
                shutil.rmtree(folder, ignore_errors=True)  # of somebody who was killed
                folder.mkdir()
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder)
    except Timeout as error:
        raise ConflictError("Another pack is being imported or removed; wait for that, then repeat.") from error


def names(home: Path) -> list[str]:
    """The packs in a folder."""
    found = sorted(home.glob("*/pack.json")) if home.is_dir() else []
    return [file.parent.name for file in found if is_name(file.parent.name)]


def is_name(name: str) -> bool:
    return bool(NAME.fullmatch(name)) and name == name.strip(" .") and len(name.encode()) <= LONGEST_NAME


def _is_whole(stored: dict) -> bool:
    """Whether a shard.json is what this module writes: packs come from elsewhere, too."""
    wanted = {"documents": dict, "training": str, "adapter": str, "reflections": int, "figures": dict,
              "seconds": dict, "files": dict, "memory": str}  # fmt: skip
    if not all(type(stored.get(name)) is kind for name, kind in wanted.items()):
        return False
    files, figures = stored["files"], {**stored["figures"], **stored["seconds"]}
    hashes = [stored["training"], *files.values(), *stored["documents"].values()]
    return (
        files.keys() == {ADAPTER, KEYS}
        and files[ADAPTER] == stored["adapter"]  # what is loaded is known by this hash, and nobody has it by a claim
        and all(isinstance(value, str) and HASH.fullmatch(value) for value in hashes)
        and all(type(value) in (int, float) and 0 <= value < LARGEST_FIGURE for value in figures.values())
        and all(map(str.isidentifier, figures))
    )


def _checked(value: Sentence | Source | Reflection) -> Sentence | Source | Reflection:
    """Raises TypeError for a field of another type: packs come from elsewhere, too."""
    kinds = {"number": int, "kept": bool, "sources": tuple, "slot": str | None}
    for field in fields(value):
        if not isinstance(getattr(value, field.name), kinds.get(field.name, str)):
            raise TypeError(field.name)
    return value


def _certificate(stored: dict) -> Certificate:
    parts = {"surviving": Evidence, "searched": Searched, "checks": Check}
    made = {name: tuple(kind(**each) for each in stored[name]) for name, kind in parts.items()}
    discarded, at = tuple(stored["discarded"]), datetime.fromisoformat(stored["at"])
    return Certificate(**{**stored, **made, "discarded": discarded, "at": at})


def document_hash(document: Document) -> str:
    """Of the sentences of a document: anybody who has the text can compute it."""
    return digest([sentence.text for sentence in document.sentences])
