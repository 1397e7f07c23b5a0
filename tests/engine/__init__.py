"""The files that a team deploys, on a real container engine: ``make compose-test``."""
