"""The composition root. It creates the Celery application, so that every process publishes through the same one."""

import gc

# Loading makes some hundred thousand objects and hardly a cycle, and collecting took a tenth of each start. Serving
# processes set their own thresholds after loading (config.startup.freeze_gc).
gc.set_threshold(1_000_000, 20, 20)

from config.celery import app as celery_app  # noqa: E402

__all__ = ["celery_app"]
