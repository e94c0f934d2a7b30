"""The controls on instances of Cloud SQL: what the service itself keeps, and what could take it away."""

from collections.abc import Callable, Iterator

from cto_backups.core import cloud_sql
from cto_backups.core.cloud_sql import Instance, Told, Wanted
from cto_backups.core.findings import Audited, Check, Control, Severity
from cto_backups.core.frameworks import clauses


def _checks(audited: Audited, judge: Callable[[Instance, Wanted], Told]) -> Iterator[Check]:
    """What is wrong with each instance, each thing by itself; where nothing is, all that was looked at."""
    for name, found in audited.environment.cloud_sql.items():
        source = audited.policy.sources[name]
        wanted = source.options.get("expects")
        told = list(judge(found, wanted if isinstance(wanted, Wanted) else Wanted()))
        wrong = [sentence for passed, sentence in told if not passed]
        for sentence in wrong:
            yield Check(name, False, f"instance {found.name}: {sentence}", category=source.category.name)
        if told and not wrong:
            all_of_it = "; ".join(sentence for _, sentence in told)
            yield Check(name, True, f"instance {found.name}: {all_of_it}", category=source.category.name)


def check_backups(audited: Audited) -> Iterator[Check]:
    """Each instance is backed up by the service as policy says, whatever we keep of it beside."""
    return _checks(audited, lambda found, wanted: cloud_sql.backups(found, wanted, audited.now))


def check_point_in_time(audited: Audited) -> Iterator[Check]:
    """Each instance can be brought back to any moment of so many days."""
    return _checks(audited, cloud_sql.point_in_time)


def check_region(audited: Audited) -> Iterator[Check]:
    """Each instance stands where policy says."""
    return _checks(audited, cloud_sql.region)


def check_deletion(audited: Audited) -> Iterator[Check]:
    """No instance is deleted by mistake, nor its backups with it."""
    return _checks(audited, cloud_sql.deletion)


def check_network(audited: Audited) -> Iterator[Check]:
    """No instance is open to the world, or to who reads along."""
    return _checks(audited, cloud_sql.network)


def check_leftovers(audited: Audited) -> Iterator[Check]:
    """No clone was left behind."""
    return _checks(audited, lambda found, _: cloud_sql.leftovers(found))


CLOUD_SQL: tuple[Control, ...] = (
    Control(
        "cloudsql-backups",
        "Cloud SQL backs up as policy says",
        Severity.HIGH,
        "The service's own backups are the fastest way back, and only settings say that they are made and kept.",
        "gcloud sql instances patch NAME --backup --backup-start-time=HH:MM --retained-backups-count=DAYS; see why the "
        "last one failed with 'gcloud sql operations list'.",
        check_backups,
        clauses("A1.2;A.8.13;CP-9;11.2;Art. 12(1);164.308(a)(7)(ii)(A)"),
    ),
    Control(
        "cloudsql-point-in-time",
        "Cloud SQL keeps its log",
        Severity.HIGH,
        "Without its log an instance comes back as it was at its last backup, and what came since is lost.",
        "gcloud sql instances patch NAME --enable-point-in-time-recovery --retained-transaction-log-days=DAYS "
        "(--enable-bin-log for MySQL).",
        check_point_in_time,
        clauses("A1.2;A.8.13;CP-9;CP-10;11.2;Art. 12(1);164.308(a)(7)(ii)(A)"),
    ),
    Control(
        "cloudsql-region",
        "Cloud SQL stands where policy says",
        Severity.MEDIUM,
        "Copies are counted as independent by where the original stands; if it stands elsewhere, they may not be.",
        "Correct `expects.region` of the source, or move the instance.",
        check_region,
        clauses("A1.2;A.8.14;CP-9;11.4;Art. 12(3)"),
    ),
    Control(
        "cloudsql-deletion",
        "A Cloud SQL instance is not deleted with its backups",
        Severity.HIGH,
        "One command deletes an instance, and by default the service deletes its automated backups with it.",
        "gcloud sql instances patch NAME --deletion-protection --retain-backups-on-delete; or a final backup: "
        "--final-backup.",
        check_deletion,
        clauses("A1.2;CC6.1;A.8.13;CP-9;11.3;Art. 12(3);164.308(a)(7)(ii)(A)"),
    ),
    Control(
        "cloudsql-network",
        "A Cloud SQL instance is not open to the world",
        Severity.HIGH,
        "A database with a public address is tried by everybody; one that takes plain connections is read along.",
        "gcloud sql instances patch NAME --no-assign-ip --network=VPC --ssl-mode=ENCRYPTED_ONLY; where the public "
        "address is meant, say so: `expects.public_address: true`.",
        check_network,
        clauses("CC6.1;A.8.24;SC-8;3.10;164.312(e)(1)"),
    ),
    Control(
        "cloudsql-clones",
        "No clone of a restore test was left behind",
        Severity.MEDIUM,
        "A clone holds all of production's data, is watched by nobody, and costs what production costs.",
        "Run 'cto.backups test SOURCE': it deletes them first; or delete them: gcloud sql instances delete NAME.",
        check_leftovers,
        clauses("C1.2;A.8.10;SI-12(3);3.5"),
    ),
)
