"""Model instances from the rows that the hand-written statements return."""

from __future__ import annotations

from typing import Final

from generation.db import queries
from generation.db.execution import instances
from generation.models import GenerationRequest

#: Return a request from a row that begins with the columns ``queries.REQUEST``.
read_request: Final = instances(GenerationRequest, queries.REQUEST)
#: Return a request from a row that begins with the columns ``queries.VERSION``.
read_version: Final = instances(GenerationRequest, queries.VERSION, is_partial=True)
