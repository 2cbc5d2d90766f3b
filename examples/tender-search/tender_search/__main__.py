"""Runs the backend: `python -m tender_search`."""

import os

import uvicorn

from .app import create_app
from .log import log_json

host, _, port = os.environ.get("LISTEN", "127.0.0.1:8000").rpartition(":")
log_json()
# Its logging is ours.
uvicorn.run(create_app(), host=host, port=int(port), log_config=None)
