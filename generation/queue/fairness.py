"""Turns in the queue: the key by which requests are told apart, and the owners that wait."""

from __future__ import annotations

import hashlib

from django.conf import settings

#: Values of the setting ``FAIRNESS``.
OWNER, PROJECT, END_USER, OFF = "owner", "project", "endUser", "off"


def fair_key(owner_id: int, *, project_id: str = "", end_user: object = "") -> str:
    """Return the key with which a request takes turns, an empty string without fairness.

    Projects and end users are those of one owner: the names of another owner's are other ones. A request without a
    project or an end user takes its turns with the owner's others that have none. An end user is a text; it is a key
    of ``metadata``, where clients may have another value.
    """
    match settings.FAIRNESS:
        case "off":
            return ""
        case "project":
            part = project_id
        case "endUser":
            part = end_user if isinstance(end_user, str) else ""
        case _:
            part = ""
    # A digest has a bounded length, whatever the client sent.
    return f"{owner_id}:{hashlib.sha256(part.encode()).hexdigest()[:32]}" if part else str(owner_id)
