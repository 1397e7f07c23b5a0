"""Odd but sound images, and broken ones, made in a second: ``python -m tests.corpus FOLDER`` writes them down."""
