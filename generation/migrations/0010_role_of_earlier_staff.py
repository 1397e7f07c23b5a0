"""Who was on the staff before there were roles goes on as an operator.

Without roles staff saw everything and cancelled and retried anybody's requests over the API, which is what an operator
may do. Who was given one of the roles keeps it, superusers need none, and who joined later was left without one by
somebody who knew of them.
"""

from typing import Any

from django.db import migrations
from django.db.migrations.recorder import MigrationRecorder

from generation.access import roles


def make_operators(apps: Any, schema_editor: Any) -> None:
    applied = MigrationRecorder(schema_editor.connection).migration_qs
    since = applied.filter(app="generation", name="0008_roles_and_search").values_list("applied", flat=True).first()
    if since is None:
        return
    staff = apps.get_model("auth", "User").objects.filter(is_staff=True, is_superuser=False, date_joined__lt=since)
    without_role = staff.exclude(groups__name__in=list(roles.GROUPS))
    apps.get_model("auth", "Group").objects.get(name=roles.OPERATOR).user_set.add(*without_role)


class Migration(migrations.Migration):
    dependencies = [("generation", "0009_metrics")]

    operations = [migrations.RunPython(make_operators, migrations.RunPython.noop)]
