"""Advice for each error code: for the pages, the admin and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from generation.states import ErrorCode

ADVICE: Final[Mapping[str, str]] = {
    ErrorCode.REFUSED_INPUT: "Rephrase the prompt: often a single word triggers the safety system.",
    ErrorCode.REFUSED_OUTPUT: "Generate a new variation, or rephrase the prompt.",
    ErrorCode.INVALID_REQUEST: "Correct the request; the message says what is not accepted.",
    ErrorCode.AUTH: "Check the provider's key in the settings, and whether it may use this model.",
    ErrorCode.QUOTA_EXHAUSTED: "Add credit at the provider, then try again.",
    ErrorCode.RATE_LIMITED: "Try again later, or ask the provider for a higher limit.",
    ErrorCode.UNAVAILABLE: "Try again later; the provider's status page may say more.",
    ErrorCode.TIMEOUT: "Try again; if it happens often, check the network between the workers and the provider.",
    ErrorCode.UNKNOWN_OUTCOME: (
        "Check the provider's bill before you retry: the call may have been charged. If it happens often, raise "
        "PROVIDER_TIMEOUT_MS."
    ),
    ErrorCode.EMPTY_RESULT: "Try again, or ask for an image more clearly in the prompt.",
    ErrorCode.INVALID_IMAGE: "Try again, or choose another model.",
    ErrorCode.MODEL_RETIRED: "Choose another model, or set a successor for this one.",
    ErrorCode.STORAGE: "Free space in the image storage, or correct its settings, then try again.",
    ErrorCode.WORKER_LOST: "Try again; if it happens often, check the workers' logs and memory.",
    ErrorCode.INTERNAL: "Check the workers' logs.",
}
