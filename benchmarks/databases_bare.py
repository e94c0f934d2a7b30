"""Our command line, without summing up rows: what a fingerprint costs is the difference."""

from cto_backups.cli.main import main
from cto_backups.sources import postgresql_moments, postgresql_sums


def _nothing(session: object, name: str, **_: object) -> postgresql_sums.Summed:
    # One table with a row, as a server without any is refused.
    seeming, none = (postgresql_sums.TableSums(of, rows, ("0",)) for of, rows in (("-", 1), ("(large objects)", 0)))
    return postgresql_sums.Summed(name, [seeming, none], {})


if __name__ == "__main__":
    postgresql_moments.summed_up = _nothing
    main()
