"""The admin. Rows that the system writes are read-only; actions on them go through ``services``, which checks the
permission and records the action in the audit log."""

from generation.admin import attempts, batches, bulk, log, pauses, people, providers, requests, today

__all__ = ["attempts", "batches", "bulk", "log", "pauses", "people", "providers", "requests", "today"]
