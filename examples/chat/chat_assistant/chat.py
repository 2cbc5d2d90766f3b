"""Chats: what an answer may cost is reserved before the model is asked, and what it did cost is charged after it."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any

import quotum
from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from quotum import AsyncReservation
from quotum.fastapi import Quotas

from .account import warnings
from .model import Model, ModelFailed, tokens_of

_log = logging.getLogger(__name__)


class Message(BaseModel):
    """What a user says, and how long the answer may be."""

    prompt: str = Field(min_length=1, max_length=20_000, pattern=r"\S")
    tokens_max: int = Field(200, ge=1, le=4_000)


async def tokens_at_most(message: Message) -> int:
    """What a message may cost: it is read, and answered."""
    return tokens_of(message.prompt) + message.tokens_max


def chats(quotas: Quotas, model: Model, answer_s_max: float) -> APIRouter:
    router = APIRouter(tags=["chat"])
    reserve = quotas.reserve(messages=1, tokens=tokens_at_most, ttl=answer_s_max)

    @router.post("/chat")
    async def chat(message: Message, reserved: Annotated[AsyncReservation, Depends(reserve)]) -> StreamingResponse:
        """Answer, word by word, as server-sent events."""
        warning = warnings(reserved.decision.quotas)
        headers = {"x-quota-warning": ", ".join(warning)} if warning else {}
        return StreamingResponse(answer(model, message, reserved), media_type="text/event-stream", headers=headers)

    return router


async def answer(model: Model, message: Message, reserved: AsyncReservation) -> AsyncIterator[str]:
    """The events of one answer. What it has not committed when it ends, or when the client goes away, is given back."""
    tokens = tokens_of(message.prompt)
    try:
        async for word in model(message.prompt, message.tokens_max):
            tokens += 1
            yield event("word", {"text": word})
    except ModelFailed:
        await reserved.release()
        yield event("error", {"detail": "the model failed: this message is not counted"})
        return
    try:
        settlement = await reserved.commit(tokens=tokens)
    except quotum.QuotumError as error:
        # The user has the answer. What was not charged for it is lost to us, not to the user.
        _log.error("an answer of %s tokens could not be charged: %s", tokens, error)
        yield event("done", {})
    else:
        yield event("done", {"consumed": settlement.consumed, "overage": settlement.overage})


def event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
