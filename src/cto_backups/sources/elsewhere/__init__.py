"""Recovery points of other programs, tested as they are: pgBackRest, Barman, WAL-G. ``source`` is where it begins."""
