"""A command's output is kept whole or not at all; its secrets stay its own."""

import os
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from fakes.points import MemoryPoint, read_in_blocks

from cto_backups import clock
from cto_backups.core.model import Fingerprint
from cto_backups.core.ports import Existing
from cto_backups.core.trees import UNKNOWN_SIZE
from cto_backups.errors import RefusedError, RestoreError, SourceError, VerificationError
from cto_backups.sources.command import CommandSource
from cto_backups.sources.pipes import Environment, Output
from cto_backups.sources.streams import Stream, StreamTree, Sums

Make = Callable[..., CommandSource]
PASSWORD = "correct horse battery staple"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(script: str, **options: object) -> CommandSource:
        given = {"command": ("sh", "-c", script), "filename": "dump", "folder": str(tmp_path)} | options
        return CommandSource("app", given, state=tmp_path / "state")

    return made


def stored(source: CommandSource) -> tuple[MemoryPoint, Fingerprint]:
    with source.capture() as capture:
        return MemoryPoint.of(capture.tree), capture.fingerprint()


def refused(source: CommandSource) -> SourceError:
    with source.capture() as capture:
        with pytest.raises(SourceError) as raised:
            MemoryPoint.of(capture.tree)
        with pytest.raises(RuntimeError):
            capture.fingerprint()
    return raised.value


def gone(pid: int) -> bool:
    """Whether a process has ended, or soon does."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.1)
    return False


class TestTaking:
    def test_it_is_kept_as_one_file_that_only_its_owner_may_read(self, make: Make) -> None:
        point, fingerprint = stored(make("echo some rows"))
        ((path, (entry, content)),) = point.entries.items()
        assert (path, content) == (b"/dump", b"some rows\n")
        assert (entry.size, entry.mode, entry.uid) == (10, 0o100600, os.geteuid())
        assert fingerprint.counts == {"streams": 1, "bytes": 10}
        assert fingerprint.samples[0].fields["sha256"] == sha256(b"some rows\n").hexdigest()

    def test_its_size_is_unknown_until_its_end(self, make: Make) -> None:
        with make("echo some rows").capture() as capture:
            (entry,) = capture.tree.folder(capture.tree.root)
            assert entry.size == UNKNOWN_SIZE
            read_in_blocks(capture.tree, entry, 4)
            assert entry.size == 10

    @pytest.mark.parametrize(
        ("script", "why"),
        [
            ("echo half; echo the disk is gone >&2; exit 3", "the disk is gone"),
            ("echo half; exit 3", "it ended with status 3"),
            ("echo half; kill -9 $$", "it ended with status -9"),
            ("exec >&-; exit 4", "it ended with status 4"),
            ("exit 0", "without giving a single byte"),
        ],
    )
    def test_a_program_that_fails_gives_nothing_however_much_it_gave(self, make: Make, script: str, why: str) -> None:
        error = refused(make(script))
        assert error.what == "source app gave nothing whole"
        assert why in error.why
        assert error.todo

    def test_a_program_that_falls_silent_is_ended_with_all_that_it_started(self, make: Make, tmp_path: Path) -> None:
        script = "sleep 600 & echo $! > child; echo begun; wait"
        started = time.monotonic()
        error = refused(make(script, timeout_seconds=0.5))
        assert "gave nothing for 0.5 seconds" in error.why
        assert time.monotonic() - started < 30
        assert gone(int((tmp_path / "child").read_text()))

    def test_a_program_that_closes_its_output_but_never_ends_is_ended(self, make: Make) -> None:
        error = refused(make("echo all; exec >&-; sleep 600", timeout_seconds=0.5))
        assert "did not end" in error.why

    def test_only_silence_counts_not_the_time_that_a_reader_takes(self, make: Make) -> None:
        with make("yes | head -c 4000000", timeout_seconds=0.4).capture() as capture:
            (entry,) = capture.tree.folder(capture.tree.root)
            reader = capture.tree.open(entry)
            buffer = memoryview(bytearray(1 << 20))
            size = reader.readinto(buffer)
            time.sleep(1.0)
            while count := reader.readinto(buffer):
                size += count
            reader.close()
            assert size == entry.size == 4_000_000

    def test_a_program_that_complains_at_length_is_not_held_up(self, make: Make) -> None:
        point, _ = stored(make("yes complaint | head -c 3000000 >&2; echo done"))
        assert point.entries[b"/dump"][1] == b"done\n"

    def test_a_program_waits_for_its_reader(self, make: Make, tmp_path: Path) -> None:
        source = make("head -c 50000000 /dev/zero; echo all > written")
        with source.capture() as capture:
            (entry,) = capture.tree.folder(capture.tree.root)
            reader = capture.tree.open(entry)
            assert reader.readinto(memoryview(bytearray(10))) == 10
            time.sleep(0.3)
            assert not (tmp_path / "written").exists()
            reader.close()

    def test_leaving_early_ends_the_program(self, make: Make, tmp_path: Path) -> None:
        with make("echo $$ > pid; echo begun; sleep 600").capture() as capture:
            (entry,) = capture.tree.folder(capture.tree.root)
            reader = capture.tree.open(entry)
            reader.readinto(memoryview(bytearray(10)))
            reader.close()
        assert gone(int((tmp_path / "pid").read_text()))

    def test_a_missing_program_or_folder_is_told_before_anything_runs(self, make: Make, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="no such program") as raised:
            make("", command=("./not-here",)).discover()
        assert raised.value.todo.startswith("install it")
        with pytest.raises(SourceError, match="is to run, is not there"):
            make("true", folder=str(tmp_path / "nowhere")).discover()

    def test_several_streams_at_once_count_the_same_as_one_after_the_other(self, tmp_path: Path) -> None:
        def tree() -> StreamTree:
            def stream(number: int) -> Stream:
                command = ["sh", "-c", f"yes {number} | head -c {number * 700_001}"]
                environment = Environment({"PATH": os.environ["PATH"]})

                def begin() -> Output:
                    return Output(command, environment=environment, folder=tmp_path, silent_seconds=20)

                return Stream(b"%d" % number, begin, lambda error: SourceError(str(error)))

            return StreamTree([stream(number) for number in (3, 1, 2)], clock.now())

        one, other = tree(), tree()
        MemoryPoint.of(one)
        point = MemoryPoint.of(other, threads=3)
        assert one.fingerprint() == other.fingerprint()
        assert [len(content) for _, content in point.entries.values()] == [700_001, 1_400_002, 2_100_003]


class TestSums:
    def test_they_do_not_depend_on_how_the_bytes_were_cut(self) -> None:
        data = os.urandom(5 << 20)
        whole = Sums()
        whole.add(memoryview(data))
        parts = Sums()
        for start in range(0, len(data), 300_007):
            parts.add(memoryview(data)[start : start + 300_007])
        assert whole.samples("x") == parts.samples("x")
        keys = {sample.key: sample.fields["sha256"] for sample in whole.samples("x")}
        assert keys.keys() == {"x", "x@0", "x@1", "x@2", "x@4"}
        assert keys["x@2"] == sha256(data[2 << 20 : 3 << 20]).hexdigest()


class TestSecrets:
    def environment(self, value: str = PASSWORD) -> dict[str, object]:
        return {"environment": {"APP_PASSWORD": lambda: value}}

    def test_a_command_gets_what_is_named_and_little_else(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BACKUPS_KEY", "for nobody else")
        point, _ = stored(make("env", **self.environment()))
        names = {line.partition(b"=")[0] for line in point.entries[b"/dump"][1].splitlines()}
        assert {b"APP_PASSWORD", b"PATH"} <= names
        assert b"BACKUPS_KEY" not in names

    @pytest.mark.parametrize("value", [PASSWORD, "line one of a key\nline two of a key"])
    def test_an_error_does_not_repeat_a_secret(self, make: Make, value: str) -> None:
        script = 'echo; echo "refused: $APP_PASSWORD" >&2; exit 1'
        error = refused(make(script, **self.environment(value)))
        assert "refused: [hidden]" in error.why
        for line in value.splitlines():
            assert line not in str(error)

    def test_no_piece_of_a_secret_shows_where_a_long_complaint_is_cut(self, make: Make) -> None:
        script = 'echo; for n in 1 2 3 4 5 6; do printf "%s" "$APP_PASSWORD$APP_PASSWORD" >&2; done; exit 1'
        error = refused(make(script, **self.environment("S3cr3t" * 300)))
        assert "S3cr3t" not in str(error)

    def test_a_secret_is_looked_up_only_when_a_command_runs(self, make: Make) -> None:
        def locked() -> str:
            raise AssertionError("nobody needs it")

        make("true", environment={"APP_PASSWORD": locked}).discover()


class TestBringingBack:
    def test_in_place_the_restore_command_reads_all_of_it(self, make: Make, tmp_path: Path) -> None:
        source = make("yes | head -c 3000000", restore_command=("sh", "-c", "cat > restored; echo chatter"))
        point, _ = stored(source)
        plan = source.plan_restore(point, None)
        assert "sh reads it" in plan.notes[-1]
        assert not (tmp_path / "restored").exists()
        restored = source.restore(point, None)
        assert restored.places == ("read by sh",)
        assert (tmp_path / "restored").read_bytes() == point.entries[b"/dump"][1]
        assert list((tmp_path / "state" / "sources" / "app").iterdir()) == []

    def test_elsewhere_the_restore_command_does_not_run(self, make: Make, tmp_path: Path) -> None:
        source = make("echo rows", restore_command=("sh", "-c", "touch restored"))
        point, _ = stored(source)
        source.restore(point, tmp_path / "elsewhere", existing=Existing.REFUSE)
        assert (tmp_path / "elsewhere" / "dump").read_bytes() == b"rows\n"
        assert not (tmp_path / "restored").exists()

    def test_without_a_restore_command_nothing_is_restored_in_place(self, make: Make) -> None:
        source = make("echo rows")
        point, _ = stored(source)
        for act in (source.plan_restore, source.restore):
            with pytest.raises(RefusedError) as raised:
                act(point, None)
            assert "--to" in raised.value.todo

    @pytest.mark.parametrize(
        ("script", "why"),
        [("exit 5", "status 5"), ("echo no role app >&2; exit 1", "no role app"), ("sleep 9", "ended")],
    )
    def test_a_restore_command_that_fails_fails_the_restore(self, make: Make, script: str, why: str) -> None:
        source = make("echo rows", restore_command=("sh", "-c", script), timeout_seconds=0.5)
        point, _ = stored(source)
        with pytest.raises(RestoreError) as raised:
            source.restore(point, None)
        assert why in raised.value.why

    def test_a_test_command_that_fails_fails_the_proof(self, make: Make, tmp_path: Path) -> None:
        source = make("echo rows", test_command=("sh", "-c", "grep -q rows && grep -q other dump"))
        point, expected = stored(source)
        point.restore(tmp_path / "place")
        with pytest.raises(VerificationError) as raised:
            source.probe(tmp_path / "place", expected)
        assert "test_command" in raised.value.why

    def test_a_fingerprint_of_something_else_is_no_proof(self, make: Make, tmp_path: Path) -> None:
        with pytest.raises(VerificationError, match="files/1"):
            make("echo rows").probe(tmp_path, Fingerprint("files/1", {}, {}))

    def test_a_restore_command_that_hangs_is_ended(self, make: Make, tmp_path: Path) -> None:
        source = make("echo rows", restore_command=("sh", "-c", "echo $$ > pid; sleep 600"), timeout_seconds=1)
        point, _ = stored(source)
        with pytest.raises(RestoreError, match="was ended"):
            source.restore(point, None)
        assert gone(int((tmp_path / "pid").read_text()))
