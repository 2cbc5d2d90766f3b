"""An application for servers with several workers: one engine, opened before they fork or in each of them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import quotum

PLANS: dict[str, Any] = {
    "default_plan": "free",
    "plans": {"free": {"quotas": {"jobs": "200/total", "tokens": "100000/total"}}},
}


def open_quota() -> quotum.Quota:
    return quotum.Quota.open(os.environ["QUOTUM_URL"], plans=PLANS)


# Where the server loads the application before it forks, the workers inherit it.
quota = open_quota()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Charges one unit of the metric that the path names."""
    decision = quota.consume("ana", {environ["PATH_INFO"].strip("/"): 1})
    start_response("200 OK" if decision else "429 Too Many Requests", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


async def asgi(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[..., Awaitable[None]]) -> None:
    """The same for asyncio."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        quota.close()
        return await send({"type": "lifespan.shutdown.complete"})
    decision = await quota.to_async().consume("ana", {scope["path"].strip("/"): 1})
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200 if decision else 429, "headers": headers})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
