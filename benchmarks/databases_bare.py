"""Our command line, without summing up rows: what a fingerprint costs is the difference."""

from cto_backups.cli.main import main
from cto_backups.sources import postgresql_moments, postgresql_sums


def _nothing(session: object, name: str, **_: object) -> postgresql_sums.Summed:
    none = postgresql_sums.TableSums("(large objects)", 0, ("0",))
    return postgresql_sums.Summed(name, [none], {})


if __name__ == "__main__":
    postgresql_moments.summed_up = _nothing
    main()
