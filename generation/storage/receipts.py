"""Notes beside the images: what was stored for a request whose completion is not in the database yet."""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from typing import Any, Final

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from generation.storage import images

logger = logging.getLogger(__name__)

#: The keys of a receipt, which are arguments of :func:`generation.requests.lifecycle.complete`, and the required ones.
_KEYS: Final = ("result", "model", "provider_request_id", "usage", "cost", "estimate", "paid_by")
_REQUIRED: Final = ("result", "model")


def _key(request_id: str) -> str:
    return f"receipts/{request_id}.json"


def save(request_id: str, receipt: dict[str, Any]) -> None:
    """Store beside the images what was stored for a request, so that it need not be paid for again if the database is
    unavailable now. Raises ``OSError``."""
    default_storage.save(_key(request_id), ContentFile(json.dumps(receipt).encode()))


def find(request_id: str) -> dict[str, Any] | None:
    """Return the receipt of an earlier attempt whose image is still there, None if there is none. Raises ``OSError``
    if the storage cannot say, since only "not found" may lead to another paid call."""
    try:
        found = json.loads(images.read(_key(request_id)))
        # During an upgrade, another version may have written further keys.
        receipt = {name: found[name] for name in _KEYS if name in found or name in _REQUIRED}
        for name in ("cost", "estimate"):
            Decimal(receipt.get(name) or 0)
        return receipt if default_storage.exists(receipt["result"]["image_key"]) else None
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, ArithmeticError):
        logger.exception("the receipt of %s cannot be read", request_id)
        return None


def drop(request_id: str) -> None:
    """Delete the receipt after the completion is in the database. Raises ``OSError``."""
    default_storage.delete(_key(request_id))
