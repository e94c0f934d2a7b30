"""The command line: ``cto.backups``. One module a command; heavy imports stay in functions, so help is quick."""

from cto_backups.cli import dataclasses_sooner

dataclasses_sooner.install()  # before anything else is loaded
