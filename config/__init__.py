"""The composition root. Celery's application is made here, so that every process publishes through the same one."""

import gc

# Loading makes some hundred thousand objects and hardly a cycle; looking for cycles took a tenth of each start. What
# serves sets its own thresholds when it has loaded (config.startup.freeze_gc).
gc.set_threshold(1_000_000, 20, 20)

from config.celery import app as celery_app  # noqa: E402

__all__ = ["celery_app"]
