"""PostgreSQL: named SQL statements, counters, locks, outages and session settings."""
