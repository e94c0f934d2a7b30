"""Instances of Cloud SQL: exported to vaults, and cloned to a moment as a test. ``source`` is where it begins."""
