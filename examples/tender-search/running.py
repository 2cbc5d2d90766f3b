"""What tests of a backend run: the app itself on a port of its own, and database servers with nothing in them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

NOBODY = 65_534
"""Who runs a PostgreSQL server where tests are run by root, whom it refuses."""

LOCK = """
import sqlite3, sys
sqlite3.connect(sys.argv[1], isolation_level=None).execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The app on uvicorn, in a thread of this process, so that it can have a clock and a portal of the test's."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            _wait_until(lambda: server.started or not thread.is_alive(), "the app")
            assert server.started, "the app does not start: see what it has logged"
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def running(
    package: str, environment: dict[str, str], *, home: Path, log: Path
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The app as its README runs it, in a process of its own, which a test may kill."""
    port = free_port()
    environment = {**os.environ, **environment, "LISTEN": f"127.0.0.1:{port}"}
    with open(log, "ab") as written:
        process = subprocess.Popen([sys.executable, "-m", package], cwd=home, env=environment, stderr=written)
    try:
        _wait_until(lambda: _listens(port) or process.poll() is not None, "the app")
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """An SQLite file that nobody can write to. Its locks are those of processes: it takes another one."""
    locker = subprocess.Popen(
        [sys.executable, "-c", LOCK, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert locker.stdin and locker.stdout
    assert locker.stdout.readline() == b"locked\n"
    try:
        yield
    finally:
        locker.stdin.close()
        locker.wait(30)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server: the one that is named, or one of this test's."""
    if url := os.environ.get("QUOTUM_TEST_POSTGRES_URL"):
        yield url
        return
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    on_path = shutil.which("initdb")
    programs = installed[-1] if installed else Path(on_path).parent if on_path else None
    if programs is None:
        pytest.skip("no PostgreSQL server is installed, and QUOTUM_TEST_POSTGRES_URL names none")
    user, port = NOBODY if os.geteuid() == 0 else None, free_port()
    with _folder() as folder:
        if user:
            os.chown(folder, user, user)
        made: list[str | Path] = [
            programs / "initdb",
            *f"--no-sync --auth=trust --username=quotum -D {folder}/data".split(),
        ]
        subprocess.run(made, check=True, capture_output=True, cwd=folder, user=user, group=user)
        # It listens on a socket in its folder alone.
        options = f"-D {folder}/data -k {folder} -p {port} -c listen_addresses= -c fsync=off".split()
        with _process([programs / "postgres", *options], folder, user):
            ready: list[str | Path] = [
                programs / "pg_isready",
                *f"-q -h {folder} -p {port} -d postgres -U quotum".split(),
            ]
            _wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL")
            yield f"postgres:///postgres?user=quotum&port={port}&host={folder}"


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """The URL of a Redis server: the one that is named, or one of this test's."""
    if url := os.environ.get("QUOTUM_TEST_REDIS_URL"):
        yield url
        return
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("no Redis server is installed, and QUOTUM_TEST_REDIS_URL names none")
    port = free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with _folder() as folder, _process([program, *options], folder, None):
        _wait_until(lambda: _listens(port), "Redis")
        yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # Not pytest's, which other users may not enter.
    with tempfile.TemporaryDirectory(prefix="quotum-") as name:
        yield Path(name)


@contextlib.contextmanager
def _process(command: Sequence[str | Path], folder: Path, user: int | None) -> Iterator[None]:
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, user=user, group=user)
    try:
        yield
    finally:
        # To both servers: now, without waiting for clients.
        process.send_signal(signal.SIGINT)
        process.wait(30)


def free_port() -> int:
    """A port that nobody uses at the moment."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _wait_until(is_so: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until, f"{what} does not start"
        time.sleep(0.02)
