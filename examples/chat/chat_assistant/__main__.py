"""Runs the backend: `python -m chat_assistant`."""

import logging
import os

import uvicorn

from .app import create_app

host, _, port = os.environ.get("LISTEN", "127.0.0.1:8000").rpartition(":")
logging.basicConfig(level=logging.INFO)
uvicorn.run(create_app(), host=host, port=int(port))
