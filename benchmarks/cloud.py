"""`make bench-cloud`: vaults in buckets that are 20 ms away, ours and peers' on the same server, and the raw bytes.

    python -m benchmarks.cloud [--set NAME …] [--scale 1.0] [--runs 3] [--tool NAME …] [--milliseconds 20] [--json FILE]

versitygw on this machine, behind a way on which each request waits. The programs take turns in each operation, each
with buckets of its own: an upload of new data, a copy to a second bucket, every stored byte read and checked, a
restore. "raw" moves objects of the sizes that cto.backups stored, over the same client, without doing anything to them.
rclone keeps files as they are; kopia copies a repository as it is. What is restored is compared.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import data, measure
from benchmarks.tools import PASSWORD, PEERS, Command
from cto_backups.app import starting

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests")]
from servers import object_stores  # noqa: E402
from servers.mariadb import free_port  # noqa: E402
from servers.object_stores import REGION, ObjectStore  # noqa: E402

UPLOAD, COPY, CHECK, RESTORE = OPERATIONS = ("upload", "copy", "verify by reading", "restore")
OURS, RAW, RESTIC = "cto.backups", "raw", "restic"
AIMS = ((RESTIC, 0.7), (RAW, 1.1))
SIZES = {"source-tree": 0.1, "random": 0.25}
RAW_THREADS = 8


@dataclass(frozen=True)
class Place:
    """Where a program works: a folder of its own, the data, the way to the store, and its two buckets."""

    home: Path
    data: Path
    endpoint: str
    store: ObjectStore
    buckets: tuple[str, str]

    @property
    def restored(self) -> Path:
        """What is restored to."""
        return self.home / "restored"

    @property
    def login(self) -> dict[str, str]:
        """As AWS's programs take it."""
        keys = {"AWS_ACCESS_KEY_ID": self.store.access_key, "AWS_SECRET_ACCESS_KEY": self.store.secret_key}
        return {**keys, "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(self.home)}


class Ours:
    """cto.backups, with its fingerprint, records and catalog, and every sealed blob opened again."""

    name = OURS

    def prepare(self, at: Place) -> None:
        """An installation with both vaults, of which the source uses the first."""
        common = {"provider": "own", "region": REGION, "storage": "object-storage", "tls": "none"}
        files = {"kind": "files", "class": "documentation", "paths": [str(at.data)], "vaults": ["one"]}
        os.environ.update(at.login)
        starting.initialise(
            at.home / "home",
            business="bench",
            sources={"data": {**files, "retention": "1 version"}},
            vaults={
                name: {"url": f"s3://{bucket}/v", "endpoint": at.store.endpoint, **common}
                for name, bucket in zip(("one", "two"), at.buckets, strict=True)
            },
        )
        policy = at.home / "home" / "backups.yaml"
        policy.write_text(policy.read_text().replace(at.store.endpoint, at.endpoint))

    def commands(self, operation: str, at: Place) -> Sequence[Command]:
        """As its user types them; what copies alone is started by a driver."""
        policy = str(at.home / "home" / "backups.yaml")
        if operation == COPY:
            return [[sys.executable, "-m", "benchmarks.driver", "copy", policy, "two"]]
        words = {UPLOAD: ["backup"], CHECK: ["verify", "one"], RESTORE: ["restore", "data", "--to", str(at.restored)]}
        return [[sys.executable, "-m", "cto_backups", *words[operation], "--policy", policy, "--quiet"]]

    def environment(self, at: Place) -> Mapping[str, str]:
        """The login."""
        return at.login


class Restic:
    """restic, its extra verification on as by default."""

    name = RESTIC

    def prepare(self, at: Place) -> None:
        """Two repositories that cut alike."""
        second = ["-r", self._place(at, 1), "--from-repo", self._place(at, 0), "--copy-chunker-params"]
        carry_out([[*program(self.name), "init"], [*program(self.name), "init", *second]], self.environment(at))

    def commands(self, operation: str, at: Place) -> Sequence[Command]:
        """Restic's."""
        line = {
            UPLOAD: ["backup", str(at.data)],
            COPY: ["copy", "-r", self._place(at, 1), "--from-repo", self._place(at, 0)],
            CHECK: ["check", "--read-data"],
            RESTORE: ["restore", "latest", "--target", str(at.restored)],
        }[operation]
        return [[*program(self.name), *line, "--quiet"]]

    def environment(self, at: Place) -> Mapping[str, str]:
        """The repository, and the login."""
        given = {"RESTIC_REPOSITORY": self._place(at, 0), "RESTIC_CACHE_DIR": str(at.home / "cache")}
        return {**at.login, **given, "RESTIC_PASSWORD": PASSWORD, "RESTIC_FROM_PASSWORD": PASSWORD}

    def _place(self, at: Place, number: int) -> str:
        return f"s3:{at.endpoint}/{at.buckets[number]}/r"


class Kopia:
    """kopia, with zstd. It reads back nothing that it stores; what it copies is the repository as it is."""

    name = "kopia"

    def prepare(self, at: Place) -> None:
        """A repository without maintenance."""
        lines = (
            ["repository", "create", "s3", *self._bucket(at, 0)],
            ["policy", "set", "--global", "--compression", "zstd"],
            ["maintenance", "set", "--enable-full", "false", "--enable-quick", "false"],
        )
        carry_out([[*program(self.name), *line] for line in lines], self.environment(at))

    def commands(self, operation: str, at: Place) -> Sequence[Command]:
        """Kopia's."""
        line = {
            UPLOAD: ["snapshot", "create", "--no-progress", str(at.data)],
            COPY: ["repository", "sync-to", "s3", "--no-progress", *self._bucket(at, 1)],
            CHECK: ["snapshot", "verify", "--verify-files-percent=100"],
            RESTORE: ["snapshot", "restore", "--no-progress", "--snapshot-time=latest", str(at.data), str(at.restored)],
        }[operation]
        return [[*program(self.name), *line]]

    def environment(self, at: Place) -> Mapping[str, str]:
        """Password, caches and logs of its own."""
        config = {"KOPIA_CONFIG_PATH": str(at.home / "kopia.config"), "KOPIA_LOG_DIR": str(at.home / "logs")}
        caches = {"KOPIA_CACHE_DIRECTORY": str(at.home / "cache"), "KOPIA_CHECK_FOR_UPDATES": "false"}
        return {**at.login, **config, **caches, "KOPIA_PASSWORD": PASSWORD}

    def _bucket(self, at: Place, number: int) -> list[str]:
        where = ["--bucket", at.buckets[number], "--endpoint", at.endpoint.removeprefix("http://"), "--disable-tls"]
        keys = ["--access-key", at.store.access_key, "--secret-access-key", at.store.secret_key]
        return [*where, *keys, "--region", REGION]


class Rclone:
    """rclone, which copies files as they are: neither encrypted nor compressed, and no history."""

    name = "rclone"

    def prepare(self, at: Place) -> None:
        """Two remotes of the same store, so that it does not let the store itself copy."""
        remote = f"type = s3\nprovider = Other\nenv_auth = true\nendpoint = {at.endpoint}\nregion = {REGION}\n"
        (at.home / "rclone.conf").write_text(f"[one]\n{remote}\n[two]\n{remote}")

    def commands(self, operation: str, at: Place) -> Sequence[Command]:
        """Rclone's."""
        one, two = f"one:{at.buckets[0]}", f"two:{at.buckets[1]}"
        line = {
            UPLOAD: ["sync", str(at.data), one],
            COPY: ["sync", one, two],
            CHECK: ["check", "--download", str(at.data), one],
            RESTORE: ["sync", one, str(at.restored)],
        }[operation]
        return [[*program(self.name), *line, "--config", str(at.home / "rclone.conf")]]

    def environment(self, at: Place) -> Mapping[str, str]:
        """The login."""
        return at.login


class Raw:
    """Objects as large as those that ours stored, so many at once; whoever measures it fills `home/objects`."""

    name = RAW

    def prepare(self, at: Place) -> None:
        """Nothing."""

    def commands(self, operation: str, at: Place) -> Sequence[Command]:
        """One process."""
        what = dict(zip(OPERATIONS, ("upload", "copy", "read", "restore"), strict=True))[operation]
        folder = at.restored if operation == RESTORE else at.home / "objects"
        words = [what, at.endpoint, *at.buckets, str(folder), str(RAW_THREADS)]
        return [[sys.executable, "-m", "benchmarks.cloud_raw", *words]]

    def environment(self, at: Place) -> Mapping[str, str]:
        """The login."""
        return at.login


Tool = Ours | Restic | Kopia | Rclone | Raw
Runs = dict[tuple[str, str, str], list[measure.Figures]]


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cloud", description=__doc__)
    parser.add_argument("--set", dest="sets", action="append", choices=data.DATA_SETS, help="only this data")
    parser.add_argument("--scale", type=float, default=1.0, help="this share of the data (1)")
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each (3)")
    parser.add_argument("--tool", dest="tools", action="append", help="only this one, and ours; may be repeated")
    parser.add_argument("--milliseconds", type=float, default=20.0, help="that each request waits (20)")
    parser.add_argument("--data", type=Path, default=Path("bench-data"), help="where the data is kept between runs")
    parser.add_argument("--json", type=Path, help="write the figures of all runs there")
    arguments = parser.parse_args()
    built = Path(".cache/servers/bin/versitygw").absolute()
    peers: list[Tool] = [Restic(), Kopia(), Rclone()]
    there = [tool for tool in peers if found(tool.name)]
    tools: list[Tool] = [Ours(), Raw(), *there]
    if arguments.tools:
        tools = [tool for tool in tools if tool.name in (OURS, *arguments.tools)]
    print("not here:", ", ".join(tool.name for tool in peers if tool not in there) or "none", flush=True)
    runs: Runs = {}
    with object_stores.versitygw(built) as store, way(store, arguments.milliseconds) as endpoint:
        for name in arguments.sets or SIZES:
            size = data.FULL.scaled(SIZES.get(name, 0.1) * arguments.scale)
            tree = data.make(arguments.data.absolute(), name, size)
            for number in range(arguments.runs):
                one_round(name, tree, number, tools, store, endpoint, runs)
                if arguments.json:
                    written = {" | ".join(key): [each.wall for each in figures] for key, figures in runs.items()}
                    arguments.json.write_text(json.dumps(written, indent=1))
    print(table(runs, [tool.name for tool in tools]))


def one_round(
    name: str, tree: Path, number: int, tools: list[Tool], store: ObjectStore, endpoint: str, runs: Runs
) -> None:
    """Every operation once, the programs in turn; who goes first changes with every round."""
    with tempfile.TemporaryDirectory(prefix="bench-cloud-") as scratch:
        places = {}
        for tool in tools:
            home = Path(scratch) / tool.name
            home.mkdir()
            places[tool.name] = Place(home, tree, endpoint, store, (store.bucket(), store.bucket()))
            tool.prepare(places[tool.name])
        for operation in OPERATIONS:
            # Ours before raw in the first operation, which moves as much as that has stored.
            order = tools if number % 2 == 0 or operation == UPLOAD else tools[::-1]
            for tool in order:
                at = places[tool.name]
                if operation == RESTORE:
                    at.restored.mkdir()
                if operation == UPLOAD:
                    if tool.name == RAW:
                        take_down(places[OURS], at.home / "objects")
                    measure.read_through(tree)
                for command in tool.commands(operation, at):
                    figures = measure.run(command, dict(tool.environment(at)))
                runs.setdefault((name, operation, tool.name), []).append(figures)
                print(f"  {name}, {operation}, {tool.name}: {figures.wall:.2f} s, CPU {figures.cpu:.2f} s", flush=True)
                if operation == RESTORE and number == 0 and tool.name != RAW:
                    same(tree, at)


def take_down(ours: Place, folder: Path) -> None:
    """The objects that ours stored, as files of a folder."""
    folder.mkdir()
    pages = ours.store.client.get_paginator("list_objects_v2").paginate(Bucket=ours.buckets[0])
    for number, each in enumerate(each for page in pages for each in page["Contents"]):
        body = ours.store.client.get_object(Bucket=ours.buckets[0], Key=each["Key"])["Body"]
        (folder / f"{number:06}").write_bytes(body.read())


def same(tree: Path, at: Place) -> None:
    """A restore that is quick because it is wrong is not to be measured."""
    whole = at.restored / tree.relative_to("/")
    compared = ["diff", "-rq", "--no-dereference", str(tree), str(whole if whole.exists() else at.restored)]
    if subprocess.run(compared, check=False).returncode:
        raise SystemExit(f"What came back to {at.restored} is not what was stored.")


def found(name: str) -> str | None:
    """The program of a peer, got by tools/peers, or on PATH."""
    return str(PEERS / name) if (PEERS / name).exists() else shutil.which(name)


def program(name: str) -> Command:
    """How a peer's command line begins."""
    return [found(name) or name]


def carry_out(commands: Sequence[Command], environment: Mapping[str, str]) -> None:
    """Run commands that are not measured. Raises SystemExit with their words when one fails."""
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
        if done.returncode:
            raise SystemExit(f"{' '.join(command[:3])} failed:\n{(done.stdout + done.stderr)[-2000:]}")


@contextmanager
def way(store: ObjectStore, milliseconds: float) -> Iterator[str]:
    """The address at which the store is so far away."""
    port, target = free_port(), store.endpoint.rpartition(":")[2]
    words = [sys.executable, "-m", "benchmarks.cloud_way", str(port), target, str(milliseconds)]
    with tempfile.TemporaryDirectory() as place:
        folder = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent), "PATH": os.environ["PATH"]}
        with object_stores.running(words, folder, Path(place), port):
            yield f"http://127.0.0.1:{port}"


def table(runs: Runs, tools: Sequence[str]) -> str:
    """Medians, as Markdown: wall s / CPU s, and ours by those that aims name; what misses its aim is bold."""
    aims = [(peer, most) for peer, most in AIMS if peer in tools]
    head = ["data", "operation", *tools, *(f"wall ÷ {peer} (≤ {most:g})" for peer, most in aims)]
    lines = [head, ["---"] * len(head)]
    for name, operation in dict.fromkeys((name, operation) for name, operation, _ in runs):
        walls = {tool: median(each.wall for each in runs[name, operation, tool]) for tool in tools}
        cpu = {tool: median(each.cpu for each in runs[name, operation, tool]) for tool in tools}
        ratios = [(walls[OURS] / walls[peer], most) for peer, most in aims]
        cells = [f"{walls[tool]:.2f} / {cpu[tool]:.2f}" for tool in tools]
        told = [f"{ratio:.2f}" if ratio <= most else f"**{ratio:.2f}**" for ratio, most in ratios]
        lines.append([name, operation, *cells, *told])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
