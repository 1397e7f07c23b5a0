"""The composition root. Celery's application is made here, so that every process publishes through the same one."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
