"""The command line: ``cto.backups``. One module a command; heavy imports stay in functions, so help is quick."""
