"""Every adapter: kind → "module:Class", loaded when asked for, so that nobody waits for what they do not use."""

from importlib import import_module
from typing import Any

from cto_backups.errors import PolicyError

SOURCES = {
    "barman": "cto_backups.sources.elsewhere.barman:barman_source",
    "bigquery": "cto_backups.sources.bigquery.source:BigQuerySource",
    "bucket": "cto_backups.sources.bucket.source:BucketSource",
    "cloudsql": "cto_backups.sources.cloudsql.source:CloudSqlSource",
    "command": "cto_backups.sources.command:CommandSource",
    "files": "cto_backups.sources.files:FilesSource",
    "git": "cto_backups.sources.git.source:GitSource",
    "mysql": "cto_backups.sources.mysql.source:MysqlSource",
    "pgbackrest": "cto_backups.sources.elsewhere.pgbackrest:pgbackrest_source",
    "postgresql": "cto_backups.sources.postgresql.source:PostgresqlSource",
    "sqlite": "cto_backups.sources.sqlite.source:SqliteSource",
    "wal-g": "cto_backups.sources.elsewhere.wal_g:wal_g_source",
}
VAULTS = {
    "file": "cto_backups.vaults.local:LocalVault",
    "gs": "cto_backups.vaults.gcs:gcs_vault",
    "s3": "cto_backups.vaults.s3:s3_vault",
}
SANDBOXES = {
    "folder": "cto_backups.sandboxes.folder:FolderSandbox",
}

CHANNELS = {
    "apprise": "cto_backups.channels.services:AppriseChannel",
    "smtp": "cto_backups.channels.smtp:SmtpChannel",
    "webhook": "cto_backups.channels.webhook:WebhookChannel",
}
KEY_SERVICES = {
    "aws-kms": "cto_backups.key_services.aws:AwsKeyService",
    "gcp-kms": "cto_backups.key_services.google:GoogleKeyService",
}
REPORTS = {
    "bigquery": "cto_backups.sources.bigquery.reporting:BigQueryReport",
}
QUEUES = {
    "embedded": "cto_backups.queues.embedded:Embedded",
    "postgresql": "cto_backups.queues.server:ServerQueue",
}
WATCHES = {
    "inotify": "cto_backups.sources.watcher:Watcher",
}


# What adapters need beside what everybody has: the module, and the extra that brings it.
EXTRAS = {
    "boto3": "s3",
    "botocore": "s3",
    "google": "gcs",
    "google.auth": "gcs",
    "google.cloud": "kms",
    "grpc": "kms",
    "procrastinate": "fleet",
    "psycopg": "postgresql",
    "pymysql": "mysql",
    "requests": "gcs",
}
# Kinds whose extra has packages that another one has as well.
_BY_KIND = {"bigquery": "bigquery"}


def load(adapters: dict[str, str], kind: str) -> Any:
    """What makes the adapter of a kind. Raises PolicyError naming the kinds there are, or what is to be installed."""
    try:
        module, name = adapters[kind].split(":")
    except KeyError:
        raise PolicyError(
            f"There is no adapter for '{kind}'",
            why=f"known are: {', '.join(sorted(adapters))}",
            todo="Correct it in backups.yaml.",
        ) from None
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        extra = _BY_KIND.get(kind) or ("kms" if adapters is KEY_SERVICES else EXTRAS[error.name])
        raise PolicyError(
            f"'{kind}' needs {error.name}, which is not installed",
            why="it comes with an extra of its own",
            todo=f"Install it: pip install 'cto-backups[{extra}]'.",
        ) from None
