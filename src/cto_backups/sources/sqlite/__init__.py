"""SQLite databases, copied while others write. ``source`` is where it begins."""
