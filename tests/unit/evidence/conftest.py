"""Chains of records as a real installation writes them, and exports of them that are tampered with for real."""

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cto_backups.core.model import Evidence, Rung, Step
from cto_backups.evidence import export
from cto_backups.evidence.index import Scope
from cto_backups.evidence.payloads import evidence_to_payload
from cto_backups.evidence.records import Record, SigningKey, sign

BEGIN = datetime(2026, 3, 1, 10, tzinfo=UTC)
KEY = SigningKey(bytes(range(32)))
OTHER_KEY = SigningKey(bytes(range(1, 33)))
SCOPE = Scope(BEGIN, BEGIN + timedelta(days=30))
LENGTH = 7


def evidence(number: int, *, passed: bool = True, source: str | None = "contracts", reason: str = "") -> Evidence:
    """The restore test (or, without a source, the verification) of a day."""
    at = BEGIN + timedelta(days=number)
    kind = "restore_test" if source else "verify"
    point = f"{source}-point-{number}" if source else None
    steps = (Step("restore", at, 1.5, passed, "12 entries, 1 é", {"entries": 12}),)
    rung = Rung.PROVEN if source else Rung.READ
    ended = at + timedelta(seconds=2)
    return Evidence(f"{kind}-{number}", kind, source, point, "one", at, ended, passed, rung, steps, reason)


def chain(key: SigningKey = KEY, length: int = LENGTH, *, rewrite: int | None = None) -> list[Record]:
    """Signed records of restore tests; number 3 failed, unless it is `rewrite` and says that it passed."""
    records: list[Record] = []
    previous = None
    for number in range(1, length + 1):
        proof = evidence(number, passed=number != 3 or rewrite == 3, source=None if number == 5 else "contracts")
        payload = evidence_to_payload(proof)
        made = sign(key, "evidence", payload, sequence=number, previous=previous, written_at=proof.finished_at)
        records.append(made)
        previous = made.digest
    return records


def packed(*chains: list[Record], scope: Scope = SCOPE) -> bytes:
    """An export of these chains."""
    to = io.BytesIO()
    export.write(to, {each[0].signer: each for each in chains}, scope)
    return to.getvalue()


@dataclass
class Files:
    """An export's files by name, to be changed."""

    content: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, packed: bytes) -> "Files":
        """Those of a zip."""
        with zipfile.ZipFile(io.BytesIO(packed)) as unpacked:
            return cls({name: unpacked.read(name) for name in unpacked.namelist()})

    def name(self, number: int, kind: str = "json") -> str:
        """Where a record's body (or, `kind` "sig", its signature) lies."""
        return f"records/{KEY.signer}/{number:08d}.{kind}"

    def move(self, number: int, to: int, *, keep: bool = False) -> None:
        """Give a record another number, or a second one."""
        for kind in ("json", "sig"):
            content = self.content[self.name(number, kind)]
            if not keep:
                del self.content[self.name(number, kind)]
            self.content[self.name(to, kind)] = content

    def add_up(self) -> None:
        """Make SHA256SUMS right again, as whoever tampers would."""
        sums = [
            f"{hashlib.sha256(content).hexdigest()}  {name}\n"
            for name, content in self.content.items()
            if name != export.SUMS
        ]
        self.content[export.SUMS] = "".join(sums).encode()

    def to_zip(self, path: Path) -> Path:
        """Pack them."""
        with zipfile.ZipFile(path, "w") as made:
            for name, content in self.content.items():
                made.writestr(name, content)
        return path

    def unpack(self, folder: Path) -> Path:
        """Write them into a folder."""
        for name, content in self.content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    """How the true chain ends, as it was handed over another way."""
    path = tmp_path / "known-heads.txt"
    path.write_bytes(Files.of(packed(chain())).content[export.HEADS])
    return path


def remove(files: Files) -> None:
    """Take the failed test away."""
    for kind in ("json", "sig"):
        del files.content[files.name(3, kind)]


def remove_and_close_up(files: Files) -> None:
    """Take the failed test away, and move up what comes after it."""
    remove(files)
    for number in range(4, LENGTH + 1):
        files.move(number, number - 1)


def alter(files: Files) -> None:
    """Let the failed test have passed."""
    body = files.content[files.name(3)]
    assert b'"passed":false' in body
    files.content[files.name(3)] = body.replace(b'"passed":false', b'"passed":true')


def reorder(files: Files) -> None:
    """Exchange two records."""
    files.move(4, 99)
    files.move(6, 4)
    files.move(99, 6)


def repeat(files: Files) -> None:
    """Put a passed test at the end once more."""
    files.move(LENGTH - 1, LENGTH + 1, keep=True)


def repeat_after_a_gap(files: Files) -> None:
    """Put a passed test far behind the end once more."""
    files.move(LENGTH - 1, LENGTH + 5, keep=True)


def replace_with_a_repeated_one(files: Files) -> None:
    """Put a passed test where the failed one was."""
    files.move(2, 3, keep=True)


def wrong_signature(files: Files) -> None:
    """Put another record's signature beside a record."""
    files.content[files.name(3, "sig")] = files.content[files.name(4, "sig")]


def sign_one_with_another_key(files: Files) -> None:
    """Let the failed test have passed, signed by another key in the signer's name."""
    alter(files)
    files.content[files.name(3, "sig")] = OTHER_KEY.sign(files.content[files.name(3)])


def another_key_in_the_signers_name(files: Files) -> None:
    """Sign everything with another key, and put that one where the signer's was."""
    files.content[f"keys/{KEY.signer}.pem"] = export.pem(OTHER_KEY.public_key)
    for number in range(1, LENGTH + 1):
        files.content[files.name(number, "sig")] = OTHER_KEY.sign(files.content[files.name(number)])


def cut_the_end(files: Files) -> None:
    """Take the last two records away, and say so nowhere."""
    for number in (LENGTH - 1, LENGTH):
        for kind in ("json", "sig"):
            del files.content[files.name(number, kind)]


def strange_record(files: Files) -> None:
    """Add a record of a signer that nobody knows."""
    (made,) = chain(OTHER_KEY, 1)
    for kind, content in (("json", files.content[files.name(1)]), ("sig", made.signature)):
        files.content[f"records/{made.signer}/00000001.{kind}"] = content


Tampering = Callable[[Files], None]
TAMPERINGS: tuple[Tampering, ...] = (
    remove,
    remove_and_close_up,
    alter,
    reorder,
    repeat,
    repeat_after_a_gap,
    replace_with_a_repeated_one,
    wrong_signature,
    sign_one_with_another_key,
    another_key_in_the_signers_name,
    cut_the_end,
    strange_record,
)


def cut_the_end_everywhere() -> bytes:
    """An export whose end is cut off, and which says the same in all its parts."""
    return packed(chain(length=LENGTH - 2))


def a_new_history_by_another_key() -> bytes:
    """An export of a history in which nothing failed, by a key that is not the installation's."""
    return packed(chain(OTHER_KEY, rewrite=3))


def a_new_history_by_the_same_key() -> bytes:
    """An export of a history in which nothing failed, by who holds the key."""
    return packed(chain(rewrite=3))


CONSISTENT = (cut_the_end_everywhere, a_new_history_by_another_key, a_new_history_by_the_same_key)
