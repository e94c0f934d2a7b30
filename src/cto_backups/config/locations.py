"""What may stand where a place is named: of vaults, of buckets, of the catalog; and never a password."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from cto_backups.config.kinds import CATALOG_ON_SERVER, OBJECT_STORES
from cto_backups.config.mistakes import closest
from cto_backups.config.problems import problem
from cto_backups.config.redaction import has_credentials

Check = Callable[[str, Any], None]

_BUCKETS = tuple(f"{known}://BUCKET/PREFIX" for known in OBJECT_STORES)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]\Z", re.ASCII)


def no_credentials(value: str, _around: Any = None) -> None:
    """Any address without a password in it."""
    if has_credentials(value):
        raise problem(
            "a password or token is written inside this URL",
            todo="Take it out and change it, for it was stored in plain text; use a credential helper or an SSH key.",
        )


def location(what: str, schemes: tuple[str, ...], example: str, others: Iterable[str] = ()) -> Check:
    """A path of this machine behind a scheme; `others` are the forms that are allowed beside and checked elsewhere."""
    forms = (*(f"{known}:PATH" for known in schemes), *others)
    known_schemes = tuple(form.partition(":")[0] for form in forms)

    def check(value: str, _around: Any = None) -> None:
        no_credentials(value)
        scheme, colon, rest = value.partition(":")
        if not colon or scheme not in schemes:
            raise problem(
                f"'{scheme}' is no kind of {what}" if colon else f"this does not say which kind of {what} it is",
                allowed=forms,
                nearest=closest(scheme, known_schemes) if colon else None,
                todo=f"Write it like {example}.",
            )
        if not rest.strip("/"):
            raise problem("there is no path after the colon", todo=f"Write it like {example}.")
        if rest.startswith("//") and not rest.startswith("///"):
            raise problem(
                f"'{rest[2:].partition('/')[0]}' stands where a host would",
                todo=f"{scheme}: takes a path of this machine; write it like {example}.",
            )

    return check


def vault(value: str, _around: Any = None) -> None:
    """The place of a vault: a folder, or a place in a bucket."""
    if value.partition(":")[0] not in OBJECT_STORES:
        location("vault", ("file",), "file:vaults/one", _BUCKETS)(value, None)
    else:
        bucket(value, _around)


def catalog(value: str, _around: Any = None) -> None:
    """The place of the catalog: a file, or a database on a server."""
    if not value.startswith(f"{CATALOG_ON_SERVER}:"):
        location("catalog", ("sqlite",), "sqlite:catalog.db", (f"{CATALOG_ON_SERVER}://HOST/DATABASE",))(value, None)
        return
    if has_credentials(value):
        raise problem(
            "a password is written inside this address",
            todo="Take it out and change it; put the new one into ~/.pgpass, or where catalog_password says.",
        )
    if not value.partition(":")[2].lstrip("/") or not value.startswith(f"{CATALOG_ON_SERVER}://"):
        raise problem(
            f"this does not name a server and a database after {CATALOG_ON_SERVER}://",
            todo="Write it like postgresql://backups@db.example.com/backups.",
        )


def bucket(value: str, _around: Any = None) -> None:
    """A bucket, or a place in one."""
    scheme, _, rest = value.partition(":")
    if scheme not in OBJECT_STORES:
        raise problem(f"'{scheme}' is no kind of bucket", allowed=_BUCKETS, todo="Write it like gs://acme-media.")
    no_credentials(value)
    like = f"Write it like {scheme}://acme-backups/office; an address of a server goes to endpoint."
    bucket, _, prefix = rest.removeprefix("//").partition("/")
    if not rest.startswith("//") or not _BUCKET.match(bucket):
        raise problem(f"this does not name a bucket after {scheme}://", todo=like)
    if prefix and any(part in ("", ".", "..") for part in prefix.rstrip("/").split("/")):
        raise problem("the place in the bucket has an empty part, or dots alone", todo=like)
    if any(sign in prefix for sign in "?#*\\"):
        raise problem("the place in the bucket has a sign that addresses use otherwise", todo=like)
