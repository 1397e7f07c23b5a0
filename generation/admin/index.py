"""The dashboard: figures of the last 24 hours, and findings that need attention."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest

from generation.db import counters
from generation.reports import doctor, statistics, trends
from generation.states import ADVICE, ErrorCode, Priority
from generation.templatetags.formats import NONE, dollars, duration


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the context of the index page; called by unfold."""
    user = request.user
    assert isinstance(user, User)  # noqa: S101  narrows the type; the site requires a signed-in user
    return context | found(user)


def found(user: User) -> dict[str, Any]:
    """Return the context of the page; without the permission to view requests it is empty."""
    if not user.has_perm("generation.view_generationrequest"):
        return {"may_see": False}
    day, queue = statistics.metrics(), statistics.queue_status()
    hours, failures, slowest = trends.by_hour(), trends.failures(), statistics.slowest()
    most = max(hour.completed + hour.failed for hour in hours)
    return {
        "may_see": True,
        "health": day["healthStatus"],
        "cards": [
            ("Queued", f"{queue['queueLength']:,}", f"oldest {_clock(queue['oldestQueuedAt'])}"),
            (
                "In progress",
                f"{queue['activeRequests']:,}",
                f"of {queue['capacity']} slots",
            ),
            ("Average wait", duration(queue["averageWaitTime"]), _waits()),
            ("Completed", f"{day['requestsCompleted']:,}", "last 24 h"),
            ("Failed", f"{day['requestsFailed']:,}", f"{day['failureRate']:.1%}, last 24 h"),
            ("Spent today", dollars(statistics.spent_today()), "since midnight, UTC"),
        ],
        "backlog": [
            (Priority(name).label, name, there["count"], _clock(there["oldest"]))
            for name, there in day["backlog"].items()
        ],
        "hours": [
            {
                "hour": hour,
                "height": round(100 * hour.completed / most) if most else 0,
                "failed_height": round(100 * hour.failed / most) if most else 0,
            }
            for hour in hours
        ],
        "failures": [
            {"code": code, "label": ErrorCode(code).label, "count": count, "advice": ADVICE.get(code, "")}
            for code, count in failures
        ],
        "slowest": [(pk, owner, duration(took)) for pk, owner, took in slowest],
        "findings": doctor.findings(),
    }


def _waits() -> str:
    """Return the 95th percentile of the wait in words."""
    most = counters.quantile(statistics.waits(), 0.95)
    if most is None:
        return "from submit to start"
    longest = counters.BOUNDS[-1]
    return f"95% within {duration(most)}" if most <= longest else f"5% over {duration(longest)}"


def _clock(moment: str | None) -> str:
    return f"{moment[11:19]} UTC" if moment else NONE
