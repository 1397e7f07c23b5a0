"""The settings of processes whose providers kill the worker, as a fault in a native library does."""

from __future__ import annotations

import os

from config.settings import *  # noqa: F403
from workers.providers.base import ImageAnswer, ImageRequest
from workers.providers.openai import OpenAIProvider
from workers.providers.registry import PROVIDER_CLASSES

#: A prompt with this word is deadly once its picture is there.
WORD = "basilisk"


class DeadlyAfterTheCall(OpenAIProvider):
    """The process dies with the picture in its hands."""

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        answer = await super().generate(request)
        if WORD in request.prompt:
            os._exit(1)
        return answer


class DeadlyBeforeTheCall:
    """Nobody survives making one."""

    def __init__(self) -> None:
        os._exit(1)


PROVIDER_CLASSES["openai"] = f"{__name__}:{DeadlyAfterTheCall.__name__}"
PROVIDER_CLASSES["clipart"] = f"{__name__}:{DeadlyBeforeTheCall.__name__}"
