"""What a policy may name: kinds of sources and of what is found, and schemes of vaults and of the catalog."""

from typing import Final

_DATABASES: Final = ("sqlite", "postgresql", "mysql", "bigquery", "cloudsql")
_ELSEWHERE: Final = ("pgbackrest", "barman", "wal-g")
KINDS: Final = ("files", "git", "bucket", "command", *_DATABASES, *_ELSEWHERE)
RESOURCE_KINDS: Final = (*KINDS, "volume")
OBJECT_STORES: Final = ("gs", "s3")
CATALOG_ON_SERVER: Final = "postgresql"
