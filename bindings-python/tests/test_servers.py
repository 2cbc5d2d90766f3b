"""Servers with several worker processes on one SQLite file: exactly the limit passes."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import importlib.util
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

import quotum

HERE = pathlib.Path(__file__).parent
UVICORN = ["uvicorn", "serving:asgi", "--workers", "4", "--log-level", "warning", "--no-access-log", "--port"]
GUNICORN = ["gunicorn", "serving:wsgi", "--workers", "4", "--threads", "2", "--log-level", "warning", "--preload", "-b"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(name: str, url: str) -> Iterator[str]:
    """A server with four workers, until the end of the block."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install {name}")
    port = free_port()
    arguments = [*UVICORN, str(port)] if name == "uvicorn" else [*GUNICORN, f"127.0.0.1:{port}"]
    environment = os.environ | {"QUOTUM_URL": url}
    server = subprocess.Popen([sys.executable, "-m", *arguments], cwd=HERE, env=environment)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
            except OSError:
                assert server.poll() is None, f"{name} did not start"
                assert time.monotonic() < until, f"{name} does not answer"
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            pytest.fail(f"{name} does not end when it is told to")


def ask(url: str) -> tuple[int, str]:
    """The status of an answer, and which worker gave it."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn"])
def test_of_a_burst_over_four_workers_exactly_the_limit_passes(server: str, tmp_path: pathlib.Path) -> None:
    store = f"sqlite:{tmp_path}/quota.db"
    with serving(server, store) as url, concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, [f"{url}/jobs"] * 400))
        leased = list(pool.map(ask, [f"{url}/tokens"] * 400))
    statuses = collections.Counter(status for status, _ in answers)
    assert statuses == {200: 200, 429: 200}
    workers = {worker for _, worker in answers}
    assert len(workers) > 1, "more than one worker has answered"
    assert {status for status, _ in leased} == {200}
    # Workers that ended have returned what they had leased.
    with quotum.Quota.open(store, plans={"default_plan": "free", "plans": {"free": {"quotas": {"jobs": "200/total", "tokens": "100000/total"}}}}) as quota:
        usage = {state.metric: state for state in quota.usage("ana").quotas}
    assert usage["jobs"].used == 200
    assert (usage["tokens"].used, usage["tokens"].leased) == (400, 0)
