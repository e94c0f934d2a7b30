"""Our command line, without summing up rows of MySQL or MariaDB: what a fingerprint costs is the difference."""

from cto_backups.cli.main import main
from cto_backups.sources import mysql_moment, mysql_standstill


def _nothing(session: object, made_of: list[object], **_: object) -> list[mysql_moment.Summed]:
    return [mysql_moment.Summed(each, []) for each in made_of]  # type: ignore[arg-type]


if __name__ == "__main__":
    mysql_standstill.summed_up = _nothing
    main()
