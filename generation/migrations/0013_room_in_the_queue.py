"""Room in each page of the queue for the next version of its rows, so that sending one updates no index. It holds for
pages that are written from now on; a queue's pages are soon written again."""

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [("generation", "0012_rights_of_webhooks")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE generation_queue SET (fillfactor = 70)", "ALTER TABLE generation_queue RESET (fillfactor)"
        ),
    ]
