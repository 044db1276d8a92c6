"""A real PostgreSQL server for tests, with an ordinary role and an empty database; gone afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

ROLE, DATABASE = "mam_app", "mam_test"


@contextmanager
def postgres() -> Iterator[str]:
    """Starts the server of the `pgserver` wheel, else of an installed PostgreSQL; yields the address for a store."""
    folder = Path(tempfile.mkdtemp(prefix="mam-pg-"))
    try:
        with (_wheel if _has_wheel() else _installed)(folder) as (host, port, admin):
            _prepare(host, port, admin)
            yield f"postgresql+psycopg://{ROLE}@/{DATABASE}?host={host}&port={port}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _has_wheel() -> bool:
    try:
        import pgserver  # noqa: F401
    except ImportError:
        return False
    return True


@contextmanager
def _wheel(folder: Path) -> Iterator[tuple[str, int, str]]:
    import pgserver

    os.environ["PATH"] += f"{os.pathsep}/usr/sbin"  # it calls useradd, where it runs as root
    server = pgserver.get_server(folder / "data", cleanup_mode="delete")
    try:
        info = server.get_postmaster_info()
        yield str(info.socket_dir), info.port or 5432, "postgres"
    finally:
        server.cleanup()


@contextmanager
def _installed(folder: Path) -> Iterator[tuple[str, int, str]]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "")]
    if not found[-1].is_file():
        raise RuntimeError("these tests need PostgreSQL: pip install pgserver, or apt-get install postgresql")
    programs = found[-1].parent
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        before = ["runuser", "-u", "postgres", "--"]
    else:
        before = []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run(
        [*before, programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "--no-sync"],
        check=True,
        capture_output=True,
    )
    options = ["-k", str(folder), "-p", str(port), "-c", "listen_addresses="]
    command = [*before, programs / "postgres", "-D", folder / "data", *options]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield str(folder), port, "postgres"
    finally:
        server.terminate()
        server.wait(30)


def _prepare(host: str, port: int, admin: str) -> None:
    for attempt in range(100):
        try:
            connection = psycopg.connect(host=host, port=port, user=admin, dbname="postgres", autocommit=True)
            break
        except psycopg.OperationalError:
            if attempt == 99:
                raise
            time.sleep(0.1)
    with connection:
        connection.execute(f"CREATE ROLE {ROLE} LOGIN")
        connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE} ENCODING 'UTF8' TEMPLATE template0")
