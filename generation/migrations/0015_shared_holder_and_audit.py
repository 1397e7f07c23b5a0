"""Finding what a request holds takes no longer the more is shared, and the audit can only be added to."""

from django.db import migrations, models

from generation.migrations._operations import AddIndexMeanwhile

#: Revoke from every role that does not own the table, such as the one that the processes sign in as. Later grants, and
#: roles that may write everywhere, are up to the operator.
_REVOKE = """
DO $$
DECLARE
    role_name text;
BEGIN
    FOR role_name IN
        SELECT DISTINCT pg_get_userbyid(acl.grantee)
        FROM pg_class AS audit, aclexplode(audit.relacl) AS acl
        WHERE audit.oid = 'django_admin_log'::regclass AND acl.grantee <> audit.relowner AND acl.grantee <> 0
            AND acl.privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')
    LOOP
        EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON django_admin_log FROM %I', role_name);
    END LOOP;
END
$$
"""


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("generation", "0014_normalized_user_names"),
        ("admin", "0003_logentry_add_action_flag_choices"),
    ]

    operations = [
        AddIndexMeanwhile(
            model_name="sharedpicture",
            index=models.Index(fields=["holder"], name="shared_picture_holder"),
        ),
        migrations.RunSQL([(_REVOKE, None)], migrations.RunSQL.noop),
    ]
