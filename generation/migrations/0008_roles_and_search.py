"""The groups of the staff, and what their search and their pages look things up in."""

from typing import Any

from django.contrib.auth.management import create_permissions
from django.db import migrations

from generation.access import roles

#: The words of the prompts.
WORDS = """
CREATE INDEX request_prompt_words ON generation_requests
USING gin (to_tsvector('simple'::regconfig, COALESCE(prompt, '')))
WITH (gin_pending_list_limit = 512)
"""


def make_groups(apps: Any, schema_editor: Any) -> None:
    # Django makes permissions after all migrations, which on a new database is too late for this one.
    for label in ("admin", "auth", "generation"):
        config = apps.get_app_config(label)
        config.models_module = True
        create_permissions(config, apps=apps, verbosity=0)
        config.models_module = None
    roles.make_groups(apps.get_model("auth", "Group"), apps.get_model("auth", "Permission"))


class Migration(migrations.Migration):
    dependencies = [
        ("generation", "0007_staff"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.RunPython(make_groups, migrations.RunPython.noop),
        migrations.RunSQL(WORDS, "DROP INDEX request_prompt_words"),
        migrations.RunSQL(
            "CREATE INDEX admin_log_of_object ON django_admin_log (content_type_id, object_id)",
            "DROP INDEX admin_log_of_object",
        ),
    ]
