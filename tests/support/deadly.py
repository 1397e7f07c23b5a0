"""The settings of processes whose providers kill the worker, as a fault in a native library does.

Never to be imported by a test: that would put the deadly providers into the tests' own process.
"""

from __future__ import annotations

import os

from config.settings import *  # noqa: F403
from workers.providers.base import ImageAnswer, ImageRequest
from workers.providers.openai import OpenAIProvider
from workers.providers.registry import PROVIDER_CLASSES

#: A prompt with this word is deadly once its image is there.
WORD = os.environ["DEADLY_WORD"]


class DeadlyAfterTheCall(OpenAIProvider):
    """The process dies with the image in its hands."""

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        answer = await super().generate(request)
        if WORD in request.prompt:
            os._exit(1)
        return answer


class DeadlyBeforeTheCall:
    """Creating one kills the process."""

    def __init__(self) -> None:
        os._exit(1)


PROVIDER_CLASSES["openai"] = f"{__name__}:{DeadlyAfterTheCall.__name__}"
PROVIDER_CLASSES["clipart"] = f"{__name__}:{DeadlyBeforeTheCall.__name__}"
