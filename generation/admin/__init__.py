"""What the staff look at and do. Every row that the system writes is read-only here; what changes one goes through
``services``, which asks for the permission and writes down who did it."""

from generation.admin import attempts, audit_log, batches, bulk_actions, index, pauses, providers, requests, users

__all__ = ["attempts", "audit_log", "batches", "bulk_actions", "index", "pauses", "providers", "requests", "users"]
