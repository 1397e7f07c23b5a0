"""What somebody can do about each error: for the pages, the admin and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from generation.states import ErrorCode

ADVICE: Final[Mapping[str, str]] = {
    ErrorCode.REFUSED_INPUT: "Say it in other words: safety systems often stumble over a single one.",
    ErrorCode.REFUSED_OUTPUT: "Try again with another seed, or say it in other words.",
    ErrorCode.INVALID_REQUEST: "Correct the request; the message says what is not accepted.",
    ErrorCode.AUTH: "Check the provider's key in the settings, and whether it may use this model.",
    ErrorCode.QUOTA_EXHAUSTED: "Add credit at the provider, then try again.",
    ErrorCode.RATE_LIMITED: "Try again later, or ask the provider for a higher limit.",
    ErrorCode.UNAVAILABLE: "Try again later; the provider's status page may say more.",
    ErrorCode.TIMEOUT: "Try again; if it happens often, check the network between the workers and the provider.",
    ErrorCode.UNKNOWN_OUTCOME: (
        "Look at the provider's bill before trying again: it may have been paid for. If it happens often, raise "
        "PROVIDER_TIMEOUT_MS."
    ),
    ErrorCode.EMPTY_RESULT: "Try again, or say more plainly that a picture is wanted.",
    ErrorCode.INVALID_IMAGE: "Try again, or choose another model.",
    ErrorCode.MODEL_RETIRED: "Choose another model, or name a successor for this one.",
    ErrorCode.STORAGE: "Free space where pictures are kept, or correct its settings, then try again.",
    ErrorCode.WORKER_LOST: "Try again; if it happens often, look at the workers' logs and memory.",
    ErrorCode.INTERNAL: "Look at the workers' logs.",
}
