"""The hot statements as plain SQL, and how they are run."""
