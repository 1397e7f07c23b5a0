"""Store the names of users as sign-in looks them up.

Django normalizes a name in its forms and in ``create_user``, but not in ``User.objects.create``. Until now such a name
could get a token by its exact spelling. Where two names would become one, both are left as they are.
"""

from typing import Any

from django.db import migrations

from generation import identifiers


def normalize(apps: Any, schema_editor: Any) -> None:
    users = apps.get_model("auth", "User").objects.using(schema_editor.connection.alias)
    last = 0
    while page := list(users.filter(pk__gt=last).order_by("pk").values_list("pk", "username")[:2000]):
        for pk, stored in page:
            name = identifiers.user_name(stored)
            if name != stored and not users.filter(username=name).exists():
                users.filter(pk=pk).update(username=name)
        last = page[-1][0]


class Migration(migrations.Migration):
    dependencies = [
        ("generation", "0013_booked_costs_and_model_states"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [migrations.RunPython(normalize, migrations.RunPython.noop)]
