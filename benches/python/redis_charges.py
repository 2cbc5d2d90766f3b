"""Charges on a Redis server of the benchmark's own: leased, and each in the server."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

import redis
from limits.storage import RedisStorage
from quotum import Quota

import peers
from decisions import consuming
from engine import PLANS, from_memory, leased, subjects
from measure import Asks, Comparison, Contender, Scale, UnexpectedError, uniform
from sqlite_charges import charging

PROGRAM = which("redis-server")
START_S_MAX = 10


def comparisons(scale: Scale, _: Quota) -> Iterator[Comparison]:
    """Beside limits on Redis, and beside the least that can be asked of the server."""
    if PROGRAM is None:
        print("no redis-server here: nothing is measured on Redis")
        return
    ids = subjects(scale.subjects)
    asks = Asks(ids, uniform(len(ids)))
    with server(PROGRAM) as socket:
        url = f"redis+unix://{socket}"
        client = redis.Redis(unix_socket_path=socket)
        beside = [peers.limits_fixed(asks, storage=RedisStorage(url)), increments(client, asks)]
        with leased(url, ids) as quota:
            ours = consuming("", quota, asks).ours
            yield Comparison("consume, leased from Redis", ours, beside, watch=partial(from_memory, quota))
        with Quota.open(url, plans=PLANS, lease="off") as quota:
            yield Comparison("exact charge on Redis, one caller", charging(quota, asks), beside)
        client.close()


def increments(client: redis.Redis, asks: Asks[str]) -> Contender[str]:
    """A round trip, without a limit."""

    def loop(keys: Sequence[str]) -> None:
        incr = client.incr
        for key in keys:
            if not incr(key):
                raise UnexpectedError(key)

    return Contender("redis-py, INCR", loop, asks)


@contextmanager
def server(program: str) -> Iterator[str]:
    """A server that keeps nothing, on a socket that only this process knows."""
    with TemporaryDirectory() as folder:
        socket = Path(folder, "redis.sock")
        settings = ["--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", "", "--appendonly", "no"]
        process = subprocess.Popen([program, *settings], stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + START_S_MAX
            while not socket.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise UnexpectedError("redis-server did not start")
                time.sleep(0.01)
            yield str(socket)
        finally:
            process.terminate()
            process.wait()
