"""The accounts and roles of a server and what they may do, as statements, and as words without their passwords."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cto_backups.sources.mysql.connection import Session, Version, rows

USERS_FILE: Final = "users.sql"
GRANTS_FILE: Final = "grants.sql"
_RESERVED: Final = frozenset({"mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema"})
"""The server's own: each has them from the beginning."""
_EVERYBODY: Final = "PUBLIC"
_BLOCK: Final = b"-- account "
# Else MariaDB makes an account without a password of whoever is granted something and is not there.
_NOBODY_BY_GRANT: Final = "SET SESSION sql_mode = '' /*M!100000 , SESSION sql_mode = 'NO_AUTO_CREATE_USER' */;"
_STRING: Final = r"'(?:[^'\\]|''|\\.)*'"
_NAME: Final = r"`(?:[^`]|``)*`"
_SECRET: Final = re.compile(rf"\b(BY PASSWORD|AS|USING) (?:{_STRING}|0x[0-9A-Fa-f]+)")
_AUTHENTICATION: Final = re.compile(
    rf" IDENTIFIED (?:BY PASSWORD {_STRING}|VIA \w+(?: (?:USING|AS) {_STRING})?(?: OR \w+(?: (?:USING|AS) {_STRING})?)*"
    rf"|WITH {_STRING}(?: AS (?:{_STRING}|0x[0-9A-Fa-f]+))?)"
)
_GRANTED_ON: Final = re.compile(rf" ON (?:TABLE |PROCEDURE |FUNCTION |PACKAGE (?:BODY )?)?({_NAME})\.({_NAME}) TO ")
_COLUMNS: Final = re.compile(rf"\(({_NAME}(?:, {_NAME})*)\)")
_ONE_NAME: Final = re.compile(_NAME)
_MAKE: Final = re.compile(r"CREATE (USER|ROLE) (?!IF NOT EXISTS )")


@dataclass(frozen=True)
class Account:
    """An account or role: what it is called in statements, the one that makes it (none makes PUBLIC), its grants."""

    name: str
    making: str
    grants: Sequence[str]


@dataclass(frozen=True)
class Accounts:
    """All of a server, and which grants cannot be given where there are only the databases that were dumped."""

    every: Sequence[Account]
    objects: Mapping[str, frozenset[str]]

    def digests(self) -> dict[str, str]:
        """The SHA-256 of who there is, and of what they may do; whoever reads them cannot guess passwords."""
        makings = sorted(_SECRET.sub(r"\1 hidden", account.making) for account in self.every)
        grants = sorted(
            _in_order(_AUTHENTICATION.sub("", grant))
            for account in self.every
            for grant in account.grants
            if self._fits(grant)
        )
        return {"accounts": _digest(makings), "grants": _digest(grants)}

    def users_file(self) -> bytes:
        """The statements that make them, which leave those alone that are there."""
        made = [account for account in self.every if account.making]
        return _file((each.name, [_MAKE.sub(r"CREATE \1 IF NOT EXISTS ", each.making, count=1)]) for each in made)

    def grants_file(self) -> bytes:
        """The statements that give them their rights, once the databases are there, and leave passwords alone."""
        return _file((account.name, [self._granting(grant) for grant in account.grants]) for account in self.every)

    def _granting(self, grant: str) -> str:
        grant = _AUTHENTICATION.sub("", grant)
        return grant if self._fits(grant) else f"-- of what was not dumped: {label(grant)}"

    def _fits(self, grant: str) -> bool:
        on = _GRANTED_ON.search(grant)
        if on is None or on[2] == "`*`":
            return True
        return _unquoted(on[2]).lower() in self.objects.get(_unquoted(on[1]), frozenset())


def accounts(
    session: Session, version: Version, objects: Mapping[str, frozenset[str]], *, without: Iterable[str] = ()
) -> Accounts:
    """Who there is; `objects` are the names of tables and routines by database, `without` users' names to leave out.

    Raises pymysql.MySQLError.
    """
    left_out = _RESERVED | set(without)
    kind = "is_role" if version.is_mariadb else "'N'"
    named = rows(session, f"SELECT User, Host, {kind} FROM mysql.user ORDER BY User, Host")
    every = []
    for user, host, is_role in named:
        if user in left_out:
            continue
        role = is_role == "Y"
        name = _backticked(user) if role else f"{_backticked(user)}@{_backticked(host)}"
        if role and user == _EVERYBODY:
            name, making = _EVERYBODY, ""
        elif role:
            making = f"CREATE ROLE {name}"
        else:
            ((making,),) = rows(session, f"SHOW CREATE USER {name}")
        grants = [str(grant) for (grant,) in rows(session, f"SHOW GRANTS FOR {name}")]
        every.append(Account(name, str(making), grants))
    return Accounts(every, objects)


def lacking(content: bytes, there: Collection[str]) -> bytes:
    """What a file says of accounts that are not there; those that are keep what they have, and get nothing."""
    labels = {label(name) for name in there}
    kept, wanted = [], True
    for line in content.splitlines(keepends=True):
        if line.startswith(_BLOCK):
            name = line.removeprefix(_BLOCK).strip().decode("utf-8", "surrogateescape")
            wanted = name not in labels and name != _EVERYBODY
        if wanted:
            kept.append(line)
    return b"".join(kept)


def accounts_in(content: bytes) -> list[str]:
    """The accounts that a file speaks of, as it calls them."""
    blocks = (line.removeprefix(_BLOCK).strip() for line in content.splitlines() if line.startswith(_BLOCK))
    return [name.decode("utf-8", "surrogateescape") for name in blocks]


def names(every: Accounts) -> set[str]:
    """What accounts are called in statements."""
    return {account.name for account in every.every}


def _in_order(grant: str) -> str:
    """A grant whose columns are sorted: a server tells them in the order of a table in its memory."""
    return _COLUMNS.sub(lambda found: f"({', '.join(sorted(_ONE_NAME.findall(found[1])))})", grant)


def _file(blocks: Iterable[tuple[str, Sequence[str]]]) -> bytes:
    lines = ["-- Accounts and roles of a server; made by cto.backups", _NOBODY_BY_GRANT]
    for name, statements in blocks:
        lines.append(f"{_BLOCK.decode()}{label(name)}")
        lines += [statement if statement.startswith("--") else f"{statement};" for statement in statements]
    return "\n".join([*lines, "-- Dump completed", ""]).encode("utf-8", "surrogateescape")


def label(text: str) -> str:
    """A name, or another text, in a comment, which ends with its line, whatever is in it."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def _digest(lines: Sequence[str]) -> str:
    return sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _backticked(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _unquoted(name: str) -> str:
    return name[1:-1].replace("``", "`")
