"""The model: a stand-in for one, of which every word is a token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

Model: TypeAlias = Callable[[str, int], AsyncIterator[str]]
"""Answers a prompt, word by word, in about so many tokens."""


class ModelFailed(Exception):
    """The model has no answer, or no more of it."""


def tokens_of(text: str) -> int:
    """How many tokens a text is."""
    return len(text.split())


def echo(pause_s: float) -> Model:
    """A model that repeats the prompt until its tokens are used up, and thinks so long about each word."""

    async def answer(prompt: str, tokens_max: int) -> AsyncIterator[str]:
        words = prompt.split()
        for number in range(tokens_max):
            await asyncio.sleep(pause_s)
            yield words[number % len(words)]

    return answer
