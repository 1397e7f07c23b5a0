"""Requests by their ids."""

from __future__ import annotations

from typing import Final

#: The columns of a request, in the order of the model's fields.
REQUEST: Final = (
    "id, owner_id, batch_id, type, prompt, priority, project_id, page_id, metadata, variation, inputs, api_key_id,"
    " not_before, fair_key,"
    " cancel_at, cancel_reason, status, sequence, claims, attempts,"
    " max_attempts, waits, lease_expires_at, worker, estimated_cost, http_request_id, traceparent,"
    " approval, approval_note, webhook_url, webhook_events, result, error,"
    " created_at, started_at, completed_at"
)


def of_request(columns: str) -> str:
    """Return the columns with the alias ``request``, for a statement that reads other tables as well."""
    return ", ".join(f"request.{column}" for column in columns.split(", "))


#: A request by its id, of the ``owner`` where one is given.
#:
#: Locks: none.
#: Indexes: the primary key of generation_requests.
FIND: Final = f"""/* find */
SELECT {REQUEST}
FROM generation_requests
WHERE id = %(request)s::TEXT AND (%(owner)s::INTEGER IS NULL OR owner_id = %(owner)s::INTEGER)
"""

#: Requests by their ids, in no order: one statement for any number.
#:
#: Locks: none.
#: Indexes: the primary key of generation_requests.
FIND_ALL: Final = f"""/* find all */
SELECT {REQUEST}
FROM generation_requests
WHERE id = ANY(%(requests)s::TEXT[])
"""

#: Requests of one owner whose images others refer to, with the sides of the image, NULL while there is none.
#:
#: Locks: none.
#: Indexes: the primary key of generation_requests.
SOURCES: Final = """/* sources */
SELECT id, project_id, status, (result ->> 'width')::INTEGER, (result ->> 'height')::INTEGER
FROM generation_requests
WHERE id = ANY(%(requests)s::TEXT[]) AND owner_id = %(owner)s::INTEGER
"""
