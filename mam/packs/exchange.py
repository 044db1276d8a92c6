"""A pack as one file, to hand on: a zip of its JSON and safetensors, with the hash of each in its list of contents.

Nothing of a file is believed that can be looked at: names, sizes, hashes, and that every adapter has the shape and was
trained for the very weights that this machine's memory LM has, all before anything is put in place. What a pack says of
its base and its generator is not looked up anywhere: the importer names the one, and the other is the trained one from
then on. Its card is written anew. What nobody can see in weights is what they were trained on: for that, and for what
the memo says of the rest after a deletion, there is the word of whoever made the pack.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mam.errors import InputError, MamError, WeightsError
from mam.exchange import check_name, clean
from mam.packs import card, text
from mam.packs.files import PART, digest
from mam.packs.generators import TRAINED
from mam.packs.reflect import training_set
from mam.packs.store import FORMAT, PackStore, scratch
from mam.packs.values import KINDS, READY, Document, Reflection, Source
from mam.packs.weights import AdaptedLM

CONTENTS = "contents.json"
LARGEST = 2 << 30  # bytes of all files together, unpacked
LONGEST_LIST = 4 << 20  # bytes of the list of contents
_SHARD = r"(?:documents|reflections|shard)\.json|memo\.jsonl|training\.csv|(?:adapter|keys)\.safetensors"
_FILE = re.compile(rf"pack\.json|README\.md|merged\.(?:json|safetensors)|shards/\d{{3,}}/(?:{_SHARD})")
_CURVE = re.compile(r"\d{1,9},(?:train|val),\w{1,40},-?[\w.]{1,40}|step,split,figure,value")
_DAY = (1980, 1, 1, 0, 0, 0)  # the same pack is the same file


def export(store: PackStore, path: str | os.PathLike) -> None:
    """The file is complete or not there at all. Raises InputError where it cannot be written, or is not ready."""
    if waiting := [shard.id for shard in store.shards() if shard.state != READY]:
        raise InputError(f"Shard {waiting[0]} of the pack {store.name} is not ready; build the pack first.")
    for id in store.shard_ids():
        store.adapter(id)  # damaged weights are not handed on
    files = {p.relative_to(store.folder).as_posix(): p for p in sorted(store.folder.rglob("*")) if p.is_file()}
    files = {name: file for name, file in files.items() if _FILE.fullmatch(name)}
    sums = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
    path = Path(path)
    check_name(path)
    part = path.parent / f"{path.name}{PART}"
    try:
        with zipfile.ZipFile(part, "w") as archive:  # not compressed: a purge can see what is in it
            listed = {"mam": "pack", "version": FORMAT, "name": store.name, "files": sums}
            archive.writestr(zipfile.ZipInfo(CONTENTS, _DAY), json.dumps(listed, indent=1))
            for name, file in files.items():
                archive.writestr(zipfile.ZipInfo(name, _DAY), file.read_bytes())
        part.replace(path)
    except (OSError, ValueError) as error:  # a name can also be impossible
        if part.is_file():
            part.unlink()
        why = getattr(error, "strerror", None) or error
        raise InputError(f"The pack could not be written to {path} ({why}); choose another file.") from error


def import_(home: Path, path: str | os.PathLike, lm: AdaptedLM, name: str | None = None) -> PackStore:
    """Put the pack of a file among those in `home`, under its own name or another; it is there whole or not at all.

    Raises InputError for a file that is no pack, a damaged one, or a name that is taken, and WeightsError for a pack
    that was made for other weights than those of `lm`.
    """
    with scratch(home) as folder:
        own = _unpacked(Path(path), folder / "pack")
        store = PackStore(home, name or own)
        if store.folder.exists():
            raise InputError(f"There is a pack {store.name!r} already; give this one another name.")
        try:
            _check(PackStore(folder, "pack"), lm)
        except MamError as error:
            raise type(error)(
                f"{path} cannot be imported: {str(error).replace(str(folder / 'pack'), 'its')}"
            ) from error
        (folder / "pack").replace(folder / store.name)
        card.write_card(PackStore(folder, store.name))
        (folder / store.name).replace(store.folder)
        return store


def _unpacked(path: Path, folder: Path) -> str:
    """Unpack what is what the list of contents says; returns the name of the pack."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(CONTENTS).file_size > LONGEST_LIST:
                raise InputError(f"{path} is no pack; nothing was imported.")
            listed = json.loads(archive.read(CONTENTS))
            if listed["mam"] != "pack" or listed["version"] != FORMAT:
                raise InputError(f"{path} is a pack of another format; this mam reads format {FORMAT}.")
            names = {info.filename for info in archive.infolist()} - {CONTENTS}
            if names != set(listed["files"]) or not all(map(_FILE.fullmatch, names)):
                raise InputError(f"{path} holds other files than a pack does; nothing was imported.")
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise InputError(f"{path} is compressed, which no pack is; nothing was imported.")
            if sum(archive.getinfo(name).file_size for name in names) > LARGEST:
                raise InputError(f"{path} is larger than {LARGEST >> 30} GB unpacked; nothing was imported.")
            for name, sha256 in listed["files"].items():
                content = archive.read(name)
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise InputError(f"{path} is damaged ({name}); nothing was imported. Fetch it again.")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            return str(listed["name"])
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); check the path.") from error
    except Exception as error:  # zipfile and zlib raise whatever a damaged or hostile file makes them stumble over
        raise InputError(
            f"{path} is no pack, or a damaged one ({type(error).__name__}); nothing was imported."
        ) from error


def _check(store: PackStore, lm: AdaptedLM) -> None:
    """Read everything as it is read in use. Raises WeightsError."""
    settings = store.settings()
    if settings.fingerprint != lm.fingerprint:
        raise WeightsError(f"it was made for other weights ({settings.fingerprint}) than those of {lm.id}.")
    # whoever made it does not choose what is loaded here, and which server is told what is left of it after a deletion
    store.set_settings(replace(settings, base=lm.id, generator=TRAINED))
    if not store.shard_ids():
        raise WeightsError("it has no shards.")
    if {file.parent.name for file in store.folder.glob("shards/*/*")} != set(store.shard_ids()):
        raise WeightsError("it has shards without documents.")
    text.check(store.all_documents())
    for id in store.shard_ids():
        documents, reflections, shard = store.documents(id), store.reflections(id), store.shard(id)
        _check_texts(id, documents, reflections)
        if shard.state != READY:
            raise WeightsError(f"its shard {id} is not whole.")
        if shard.training != digest(training_set(reflections)):
            raise WeightsError(f"its shard {id} has other reflections than it says that it was trained on.")
        keys, _ = store.keys(id)
        if {name: (tensor.dim(), tensor.numel() > 0) for name, tensor in keys.items()} != {"keys": (2, True)}:
            raise WeightsError(f"the keys of its shard {id} are not what they should be.")
        _check_numbers(keys)
        _fits(lm, store.adapter(id))
        curves = store.shard_folder(id) / "training.csv"
        lines = curves.read_text(encoding="ascii", errors="replace").split() if curves.exists() else []
        if not all(map(_CURVE.fullmatch, lines)):
            raise WeightsError(f"the curves of its shard {id} are not what they should be.")
        # slots are those of whoever made it, and nothing of this memory
        own = [replace(d, sentences=tuple(replace(s, slot=None) for s in d.sentences)) for d in documents]
        store.set_documents(id, own)
    if store.merged():
        _fits(lm, store.merged_adapter())


def _check_texts(id: str, documents: list[Document], reflections: list[Reflection]) -> None:
    texts = [each for d in documents for each in (d.name, *(t for s in d.sentences for t in (s.text, s.position)))]
    texts += [each for r in reflections for each in (r.id, r.kind, r.question, r.answer, r.reply, r.why)]
    if any(clean(each) != each for each in texts):
        raise WeightsError(f"its shard {id} has texts with control characters.")
    places = {Source(document.name, sentence.number) for document in documents for sentence in document.sentences}
    if not all(r.kind in KINDS and places.issuperset(r.sources) for r in reflections):
        raise WeightsError(f"its shard {id} has reflections on nothing that it holds.")


def _check_numbers(tensors: dict[str, Tensor]) -> None:
    if not all(tensor.dtype == torch.float32 and bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise WeightsError("it holds other numbers than weights.")


def _fits(lm: AdaptedLM, adapter: dict[str, Tensor]) -> None:
    _check_numbers(adapter)
    with lm.lock:
        lm.load("imported", adapter)
        lm.drop("imported")
