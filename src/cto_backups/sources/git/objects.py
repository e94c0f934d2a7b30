"""The fingerprint of a git repository, ``git/1``: its refs, and every object that can be reached from them.

==============  ====================================================================================================
``refs``        SHA-256 over the sorted lines ``<object> <ref>``
``head``        SHA-256 of what HEAD says: the ref it stands for, or an object
``objects``     the sum modulo 2**256 over SHA-256 of ``<object> <type> <size>``, of each reachable object
``lfs``         the same over ``<SHA-256> <size>`` of each stored LFS object
==============  ====================================================================================================

An object's name is the digest of its content, so a full ``git fsck`` beside this proves the content.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from pathlib import Path

from cto_backups.core.model import Fingerprint, Sample
from cto_backups.process import ToolError
from cto_backups.sources.git.command import Git
from cto_backups.sources.ledger import as_hex
from cto_backups.sources.names import readable

ALGORITHM = "git/1"
SAMPLES = 16
_LARGEST_SAMPLE = 16 << 20
_PLURALS = {b"commit": "commits", b"tree": "trees", b"blob": "blobs", b"tag": "tags"}


def fingerprint(git: Git, repository: Path, key: bytes, *, hash_lfs: bool) -> Fingerprint:
    """Walk the whole repository. Raises ToolError when an object is missing or cannot be read.

    `hash_lfs`: digest LFS objects anew rather than believe their names.
    """
    listed = refs(git, repository)
    head = head_of(repository)
    counts = {"refs": len(listed), "commits": 0, "trees": 0, "blobs": 0, "tags": 0, "bytes": 0}
    total = 0
    ranked: dict[bytes, list[tuple[bytes, bytes]]] = {b"commit": [], b"blob": []}
    for name, kind, size in _objects(git, repository):
        total += int.from_bytes(sha256(b"%b %b %d" % (name, kind, size)).digest(), "big")
        counts[_PLURALS[kind]] += 1
        counts["bytes"] += size
        if kind in ranked and size <= _LARGEST_SAMPLE:
            ranked[kind].append((blake2b(name, digest_size=8, key=key).digest(), name))
    picked = [name for group in ranked.values() for _, name in sorted(group)[:SAMPLES]]
    lfs_total, counts["lfs_objects"], counts["lfs_bytes"] = _lfs(repository, hash_lfs)
    return Fingerprint(
        algorithm=ALGORITHM,
        checksums={
            "refs": sha256(b"".join(sorted(b"%b %b\n" % (value, ref) for ref, value in listed.items()))).hexdigest(),
            "head": sha256(head).hexdigest(),
            "objects": as_hex(total),
            "lfs": as_hex(lfs_total),
            "sample-key": key.hex(),
        },
        counts=counts,
        samples=tuple(_samples(git, repository, picked)),
    )


def refs(git: Git, repository: Path) -> dict[bytes, bytes]:
    """Object by ref."""
    lines = git.local(repository, "for-each-ref", "--format=%(objectname) %(refname)").splitlines()
    return {ref: value for value, _, ref in (line.partition(b" ") for line in lines)}


def newest(git: Git, repository: Path, until: datetime) -> datetime | None:
    """When the newest of its branches' commits and of its tags was made; None when none was by `until`.

    Whoever makes them says when: a date ahead of `until` is of a wrong clock, and is not believed. The dates of the
    mirror's files say nothing: a mirror made anew has them all of today.
    """
    dates = git.local(repository, "for-each-ref", "--format=%(creatordate:unix)").split()
    latest = max((at for at in map(int, dates) if 0 < at <= until.timestamp()), default=0)
    return datetime.fromtimestamp(latest, UTC) if latest else None


def head_of(repository: Path) -> bytes:
    """What HEAD says: ``ref: refs/heads/main``, or an object when it is detached."""
    return (repository / "HEAD").read_bytes().strip()


def uses_lfs(git: Git, repository: Path) -> bool:
    """Whether any .gitattributes in the whole history sends files to LFS."""
    names = {
        line.split(b" ", 1)[0]
        for line in git.local(repository, "rev-list", "--objects", "--all").splitlines()
        if line.endswith(b".gitattributes")
    }
    contents = _contents(git, repository, sorted(names))
    return any(b"filter=lfs" in content for _, kind, content in contents if kind == b"blob")


def head_entries(git: Git, repository: Path) -> tuple[int, int]:
    """Files and submodules in HEAD's tree; (0, 0) when there is no commit yet."""
    try:
        git.local(repository, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    except ToolError:
        return 0, 0
    lines = [line for line in git.local(repository, "ls-tree", "-r", "-z", "HEAD").split(b"\0") if line]
    submodules = sum(1 for line in lines if line.startswith(b"160000 "))
    return len(lines) - submodules, submodules


def _objects(git: Git, repository: Path) -> Iterator[tuple[bytes, bytes, int]]:
    """Name, type and size of each object that refs or HEAD lead to."""
    names = git.local(repository, "rev-list", "--objects", "--no-object-names", "--all")
    checked = git.local(repository, "cat-file", "--batch-check", "--buffer", given=names)
    for line in checked.splitlines():
        parts = line.split(b" ")
        if len(parts) != 3:
            raise ToolError("git", None, f"an object is missing: {line.decode('utf-8', 'replace')}")
        yield parts[0], parts[1], int(parts[2])


def _samples(git: Git, repository: Path, names: list[bytes]) -> Iterator[Sample]:
    samples = []
    for name, kind, content in _contents(git, repository, names):
        fields = _commit_fields(content) if kind == b"commit" else {}
        fields |= {"size": str(len(content)), "sha256": sha256(content).hexdigest()}
        samples.append(Sample(f"{kind.decode()} {name.decode()}", fields))
    yield from sorted(samples, key=lambda sample: sample.key)


def _contents(git: Git, repository: Path, names: Iterable[bytes]) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Name, type and content of objects."""
    wanted = b"".join(name + b"\n" for name in names)
    answer = git.local(repository, "cat-file", "--batch", given=wanted) if wanted else b""
    at = 0
    while at < len(answer):
        end = answer.index(b"\n", at)
        name, kind, size = answer[at:end].split(b" ")
        yield name, kind, answer[end + 1 : end + 1 + int(size)]
        at = end + 1 + int(size) + 1


def _commit_fields(content: bytes) -> dict[str, str]:
    header, _, message = content.partition(b"\n\n")
    lines = [line.partition(b" ")[::2] for line in header.split(b"\n")]
    found: dict[bytes, list[bytes]] = {}
    for field, value in lines:
        found.setdefault(field, []).append(value)
    author, _, date = found.get(b"author", [b""])[0].rpartition(b"> ")
    return {
        "tree": readable(found.get(b"tree", [b""])[0]),
        "parents": readable(b" ".join(found.get(b"parent", []))),
        "author": readable(author + b">" if author else b""),
        "date": readable(date),
        "subject": readable(message.split(b"\n", 1)[0]),
    }


def _lfs(repository: Path, hash_them: bool) -> tuple[int, int, int]:
    """Sum, number and bytes of the LFS objects stored in the repository."""
    total = count = size_bytes = 0
    for path in (repository / "lfs" / "objects").glob("??/??/*"):
        size = path.stat().st_size
        name = path.name
        if hash_them:
            with path.open("rb") as file:
                digest = sha256()
                while part := file.read(1 << 20):
                    digest.update(part)
            name = digest.hexdigest()
        total += int.from_bytes(sha256(f"{name} {size}".encode()).digest(), "big")
        count += 1
        size_bytes += size
    return total, count, size_bytes
