"""A table as it is after a busy day, made by the database itself: a lifecycle that wrote it would take an hour.

The newest third is queued. All lie within the last 20 hours, so that the statistics of a day see every one. Triggers
are off, so the counters begin with ``manage.py check_counters --fix``.
"""

from __future__ import annotations

from typing import Final

import psycopg

#: Owns every third request; the others are shared by many.
BIG_OWNER: Final = "alice"
PROJECTS: Final = 1000

_MAKE: Final = """
INSERT INTO auth_user (username, password, is_superuser, first_name, last_name, email, is_staff, is_active, date_joined)
SELECT 'owner-' || n, '!', false, '', '', '', false, true, now() FROM generate_series(1, 97) AS n;

INSERT INTO generation_provider_models (provider, name, enabled, preference, capabilities, sizes, price_rule)
VALUES ('instant', 'instant', true, 100, '[]',
    '{"any": {"short": 1024, "step": 16, "widest": 4}}', '{"per_image": "0"}');

CREATE TEMPORARY TABLE made AS
SELECT n, at, 'vga_' || (extract(epoch FROM at) * 1000000)::bigint || '_' || substr(md5(n::text), 1, 18) AS id,
    CASE WHEN n %% 3 = 0 THEN (SELECT id FROM auth_user WHERE username = %(big_owner)s)
        ELSE (SELECT min(id) FROM auth_user WHERE username LIKE 'owner-%%') + n %% 97 END AS owner_id,
    CASE WHEN n > %(total)s - %(queued)s THEN 'queued' WHEN n %% 50000 = 7 THEN 'in-progress'
        WHEN n %% 20 = 1 THEN 'failed' WHEN n %% 20 = 2 THEN 'cancelled' ELSE 'completed' END AS status,
    CASE WHEN n %% 10 = 0 THEN 'urgent' WHEN n %% 10 < 3 THEN 'high' WHEN n %% 10 = 3 THEN 'low'
        ELSE 'normal' END AS priority
FROM (SELECT n, now() - (%(total)s - n) * interval '20 hours' / %(total)s AS at
    FROM generate_series(1, %(total)s) AS n) AS numbers;

INSERT INTO generation_requests (id, owner_id, type, prompt, priority, project_id, page_id, metadata, status, sequence,
    claims, attempts, waits, max_attempts, lease_expires_at, worker, result, error, created_at, started_at,
    completed_at)
SELECT id, owner_id,
    (ARRAY['coloring-page', 'cover', 'illustration', 'character-reference', 'background'])[n %% 5 + 1],
    'A friendly dragon playing in a garden full of flowers, number ' || n,
    priority, CASE WHEN n %% 4 = 0 THEN '' ELSE 'project-' || n / 4 %% %(projects)s END, 'page-' || n %% 40,
    jsonb_build_object('title', 'Dragon ' || n, 'imageStyle', 'watercolor', 'aspectRatio', 'portrait'),
    status,
    CASE status WHEN 'queued' THEN 1 WHEN 'in-progress' THEN 2 ELSE 3 END,
    (status <> 'queued')::int, (status <> 'queued')::int, 0, 3,
    CASE WHEN status = 'in-progress' THEN now() + interval '1 day' END,
    CASE WHEN status = 'in-progress' THEN 'worker-1' ELSE '' END,
    CASE WHEN status = 'completed' THEN jsonb_build_object(
        'image_key', 'results/' || md5(id), 'thumbnail_key', 'thumbnails/' || md5(id), 'content_type', 'image/png',
        'width', 1024, 'height', 1536, 'bytes', 100000 + n, 'sha256', md5(id) || md5(id), 'provider', 'clipart',
        'model', 'openmoji-17', 'seed', n, 'revised_prompt', '', 'cached', false, 'attribution', '') END,
    CASE WHEN status = 'failed' THEN jsonb_build_object(
        'message', 'The provider is away', 'code', 'unavailable', 'retryable', true, 'provider', 'clipart') END,
    at,
    CASE WHEN status <> 'queued' THEN at + interval '10 seconds' END,
    CASE WHEN status NOT IN ('queued', 'in-progress') THEN at + interval '25 seconds' END
FROM made;

-- As submits leave them: sent, and by now overdue, since the queue is longer than what Redis is given.
INSERT INTO generation_queue (request_id, priority_weight, queued_at, available_at, dispatched_at, redispatch_at,
    dispatch_count, held, weight_since, waits_for, fair_key, turn)
SELECT id, CASE priority WHEN 'urgent' THEN 1000 WHEN 'high' THEN 100 WHEN 'normal' THEN 10 ELSE 1 END, at, at, at,
    at + interval '30 seconds', 1, false, at, '', owner_id,
    row_number() OVER (PARTITION BY owner_id, priority ORDER BY n)
FROM made WHERE status = 'queued';

INSERT INTO generation_attempts (request_id, claim, number, worker, provider, model, prompt, provider_request_id,
    billable, usage, outcome, error_code, error_message, started_at, finished_at)
SELECT id, 1, 1, 'worker-1', 'clipart', 'openmoji-17', 'A friendly dragon', '', false, '{}',
    CASE status WHEN 'completed' THEN 'succeeded' WHEN 'failed' THEN 'failed' WHEN 'cancelled' THEN 'abandoned'
        ELSE 'running' END,
    CASE WHEN status = 'failed' THEN 'unavailable' ELSE '' END, '', at + interval '10 seconds',
    CASE WHEN status <> 'in-progress' THEN at + interval '25 seconds' END
FROM made WHERE status <> 'queued' ORDER BY n;

INSERT INTO generation_status_changes (request_id, sequence, from_status, to_status, reason, error_code, claim,
    actor_id, at)
SELECT id, 1, '', 'queued', 'submitted', '', 0, owner_id, at FROM made WHERE n > %(total)s / 2
UNION ALL
SELECT id, 2, 'queued', 'in-progress', 'claimed', '', 1, NULL, at + interval '10 seconds' FROM made
WHERE n > %(total)s / 2 AND status <> 'queued'
UNION ALL
SELECT id, 3, 'in-progress', status, status, CASE WHEN status = 'failed' THEN 'unavailable' ELSE '' END, 1, NULL,
    at + interval '25 seconds' FROM made
WHERE n > %(total)s / 2 AND status NOT IN ('queued', 'in-progress');
"""


#: What is made faster than kept up with every row. Those of constraints have to stay.
_INDEXES: Final = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid::regclass::text LIKE 'generation%'
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""
_SETTINGS: Final = """
-- The rows are known to belong together, and checking each takes minutes.
SET session_replication_role = replica;
SET synchronous_commit = off;
SET work_mem = '256MB';
SET maintenance_work_mem = '512MB';
"""


def make(database_url: str, *, total: int, queued: int, more: str = "") -> None:
    """Fill a migrated database in which the people of the tests are, run what ``more`` says, and let it settle."""
    values = {"total": total, "queued": queued, "projects": PROJECTS, "big_owner": BIG_OWNER}
    with psycopg.connect(database_url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(_SETTINGS)
        with connection.transaction():
            indexes = connection.execute(_INDEXES).fetchall()
            for name, _ in indexes:
                connection.execute(f"DROP INDEX {name}".encode())
            connection.execute(_MAKE, values)
            connection.execute(more.encode())
            for _, definition in indexes:
                connection.execute(definition.encode())
        # What a server does in its own time, so that it does not do it in the middle of a case.
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
