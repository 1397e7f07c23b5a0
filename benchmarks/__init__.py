"""How fast it is, measured on the processes of the Procfile with a real PostgreSQL and Valkey: ``make bench``."""
