"""Settings of a worker whose event loop stalls, or which dies between the commit of a group and its answer.

A word in a prompt is the cause.

Never to be imported by a test: that would put the provider into the tests' own process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from config.settings import *  # noqa: F403
from workers.providers.base import ImageAnswer, ImageRequest
from workers.providers.openai import OpenAIProvider
from workers.providers.registry import PROVIDER_CLASSES

#: With these words in a prompt the loop stalls for a second and a half, and the next group is the worker's last.
STALLS, DIES = "sloth", "phoenix"
_dying: list[str] = []


class Stalling(OpenAIProvider):
    """Lets the worker stall or die once the image is there."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        from generation.db import groups  # needs the settings

        resolve = groups._resolve

        def die_or_resolve(outcomes: Sequence[Any], failure: BaseException | None) -> None:
            if _dying:
                os._exit(1)
            resolve(outcomes, failure)

        groups._resolve = die_or_resolve

    async def generate(self, request: ImageRequest) -> ImageAnswer:
        answer = await super().generate(request)
        if STALLS in request.prompt:
            time.sleep(1.5)  # noqa: ASYNC251  that is the fault
        if DIES in request.prompt:
            _dying.append(request.prompt)
        return answer


PROVIDER_CLASSES["openai"] = f"{__name__}:{Stalling.__name__}"
