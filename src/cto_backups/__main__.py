"""``python -m cto_backups``: the command line."""

from cto_backups.cli.main import main

main()
