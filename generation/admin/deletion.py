"""Find the dependent rows that prevent a deletion, by counting. Django would load every dependent row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.db.models import CASCADE, PROTECT, RESTRICT, Model, QuerySet
from django.http import HttpRequest

#: ``deleted_objects``, ``model_count``, ``perms_needed`` and ``protected``, as Django's templates expect them.
Found = tuple[list[Any], dict[str, int], set[str], list[str]]
#: Dependent rows are counted up to this number.
_COUNTED: Final = 1_000
#: More than any list shows per page.
_MOST_AT_ONCE: Final = 200


def look(objects: Iterable[Model] | QuerySet[Any], request: HttpRequest, admin: Any) -> Found:
    """Return the rows deleted with these objects, the missing permissions, and the rows that prevent it."""
    rows = list(objects[: _MOST_AT_ONCE + 1]) if isinstance(objects, QuerySet) else list(objects)
    several = str(admin.opts.verbose_name_plural)
    if len(rows) > _MOST_AT_ONCE:
        return [], {}, set(), [f"more than {_MOST_AT_ONCE} {several} at once"]
    counts = {several: len(rows)}
    lacking = {str(admin.opts.verbose_name) for row in rows if not admin.has_delete_permission(request, row)}
    protected: list[str] = []
    for relation in admin.opts.get_fields(include_hidden=True):
        if not (relation.auto_created and not relation.concrete and (relation.one_to_one or relation.one_to_many)):
            continue
        how = relation.on_delete
        if how not in {CASCADE, PROTECT, RESTRICT} or not (count := _count(relation, rows)):
            continue
        related = relation.related_model
        name = str(related._meta.verbose_name if count == 1 else related._meta.verbose_name_plural)
        its_admin = admin.admin_site._registry.get(related)
        if how is not CASCADE:
            protected.append(_counted(count, name))
        elif getattr(its_admin, "is_read_only", False):
            protected.append(f"{_counted(count, name)}, which the admin never deletes")
        else:
            counts[name] = count
            if its_admin is not None and not its_admin.has_delete_permission(request):
                lacking.add(str(related._meta.verbose_name))
    shown = [str(row) for row in rows]
    shown += [_counted(count, name) for name, count in counts.items() if name != several]
    return shown, counts, lacking, protected


def _count(relation: Any, rows: list[Model]) -> int:
    dependent = relation.related_model._base_manager.filter(**{f"{relation.field.name}__in": rows})
    count: int = dependent.order_by()[: _COUNTED + 1].count()
    return count


def _counted(count: int, name: str) -> str:
    return f"more than {_COUNTED:,} {name}" if count > _COUNTED else f"{count:,} {name}"
