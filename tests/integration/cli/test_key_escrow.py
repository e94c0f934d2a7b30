"""Word shares: handed out one at a time on a terminal, they alone open every vault, and drills of them count."""

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cto_backups.config.secrets import Secret
from cto_backups.config.shares import WordShare, combine, new_secret, split
from cto_backups.errors import ExitStatus
from stock.restic import Restic

from .conftest import Home, environment, run
from .test_keys import VAULTS, key_files, opens, records

PEOPLE = ("Ada", "Grace", "Linus")
PATIENCE_SECONDS = 120
QUESTIONS = (
    "Press Enter to show it. ",
    "they are shown no more. ",
    "(not shown): ",
    "Press Enter. ",
    "such as a stick. ",
)
_WORD = re.compile(r"(\d{1,2})\. ([a-z]+)")


@dataclass
class Spoken:
    """A conversation on a terminal: the whole of what stood on it, what went to stdout, how it ended."""

    screen: str
    out: str
    status: int
    shares: list[str]


def shown_words(page: str) -> str:
    found = {int(number): word for number, word in _WORD.findall(page)}
    return " ".join(found[number] for number in sorted(found))


def talk(home: Home, *arguments: str, out: Path, answer: Callable[[str, list[str]], str | None]) -> Spoken:
    """Run a command with a terminal of its own, its stdout in a file; `answer` says what is typed at each question."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs tests in the background has it ignored
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT, 0o600), 1)
        os.chdir(home.data.parent)
        variables = environment(CTO_BACKUPS_POLICY=str(home.policy), TERM="xterm")
        os.execve(sys.executable, [sys.executable, "-m", "cto_backups", *arguments], variables)
    screen, seen, shares = "", 0, list[str]()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        if not select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"nothing more is said, and nothing asked: {screen[-2000:]!r}")
        try:
            screen += os.read(terminal, 65536).decode("utf-8", "replace")
        except OSError:
            break
        asked = screen[seen:]
        if asked.endswith(QUESTIONS):
            page = asked.partition("\x1b[?1049h")[2]
            if page:
                shares.append(shown_words(page))
            typed = answer(asked, shares)
            seen = len(screen)
            if typed is None:
                os.kill(pid, signal.SIGINT)
            else:
                os.write(terminal, typed.encode() + b"\n")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return Spoken(screen, out.read_text(), os.waitstatus_to_exitcode(status), shares)


def copies_well(asked: str, shares: list[str]) -> str:
    """A custodian who answers with the words that were shown."""
    if match := re.search(r"Word (\d+) \(not shown\)", asked):
        return shares[-1].split()[int(match[1]) - 1]
    return ""


def with_escrow(home: Home, threshold: int = 2) -> None:
    text = home.policy.read_text()
    number = text.index("  evidence:")
    asked = f"  escrow: {{custodians: [{', '.join(PEOPLE)}], threshold: {threshold}, drill: quarterly}}\n"
    home.policy.write_text(text[:number] + asked + text[number:])


@pytest.fixture
def handed_out(home: Home, tmp_path: Path) -> tuple[Home, Spoken]:
    with_escrow(home)
    spoken = talk(home, "key", "escrow", out=tmp_path / "out", answer=copies_well)
    assert spoken.status == 0, spoken.screen[-2000:]
    return home, spoken


def findings(home: Home, control: str) -> list[Any]:
    return [each for each in home("audit", "--json").document["findings"] if each["control"] == control]


def drill(where: Path, *arguments: str, shares: list[str], **variables: str) -> "subprocess.CompletedProcess[str]":
    """A drill as a process of its own, the shares on its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "cto_backups", "key", "drill", *arguments],
        cwd=where,
        env=environment(**variables),
        input="\n".join(shares),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_each_custodian_sees_one_share_alone_and_any_two_open_every_vault(handed_out: tuple[Home, Spoken]) -> None:
    home, spoken = handed_out
    assert len(spoken.shares) == len(set(spoken.shares)) == 3
    parsed = [WordShare.parse(words) for words in spoken.shares]
    secret = combine((parsed[2], parsed[0])).reveal()
    assert all(opens(home, name, secret) for name in VAULTS)
    pages = spoken.screen.split("\x1b[?1049h")[1:]
    for page in pages:
        shown, _, after = page.partition("\x1b[?1049l")
        assert len(_WORD.findall(shown)) == 33
        assert not _WORD.findall(after), "outside of the other screen no word is shown"
        lines = re.sub(r"\x1b\[[?0-9]*[A-Za-z]", "", shown).splitlines()
        assert max(map(len, lines)) <= 80
        assert len(lines) <= 24
    everything = spoken.out + "".join(
        file.read_text(errors="replace")
        for file in home.root.rglob("*")
        if file.is_file() and "vaults" not in file.parts
    )
    for words in spoken.shares:
        assert words not in everything
        assert " ".join(words.split()[:3]) not in everything
    assert secret not in everything
    assert findings(home, "key-escrow") == []
    told = [each for each in records(home, "three") if each["change"] == "escrowed"]
    assert [(each["threshold"], each["custodians"]) for each in told] == [(2, list(PEOPLE))]


def test_a_word_copied_wrong_shows_the_page_again(home: Home, tmp_path: Path) -> None:
    with_escrow(home)
    wrong = ["academic"]

    def answer(asked: str, shares: list[str]) -> str:
        if "Word" in asked and wrong and copies_well(asked, shares) != wrong[0]:
            return wrong.pop()
        return copies_well(asked, shares)

    spoken = talk(home, "key", "escrow", out=tmp_path / "out", answer=answer)
    assert spoken.status == 0
    assert "another word" in spoken.screen
    assert len(spoken.shares) == 4
    assert len(set(spoken.shares)) == 3


def test_given_up_before_the_last_share_nothing_has_changed(home: Home, tmp_path: Path) -> None:
    with_escrow(home)
    before = {name: key_files(home, name) for name in VAULTS}
    spoken = talk(
        home,
        "key",
        "escrow",
        out=tmp_path / "out",
        answer=lambda asked, shares: None if len(shares) == 2 else copies_well(asked, shares),
    )
    assert spoken.status == int(ExitStatus.INTERRUPTED)
    assert spoken.screen.rstrip().count("\x1b[?1049h") == spoken.screen.count("\x1b[?1049l")
    assert {name: key_files(home, name) for name in VAULTS} == before
    assert "no shares were handed out" in findings(home, "key-escrow")[0]["detail"]


def test_pages_lie_in_a_folder_one_at_a_time(home: Home, tmp_path: Path) -> None:
    with_escrow(home)
    stick, taken = tmp_path / "stick", tmp_path / "taken"
    stick.mkdir()
    taken.mkdir()
    asked_before = [0]

    def answer(asked: str, _shares: list[str]) -> str:
        there = list(stick.iterdir())
        assert len(there) <= 1, "never two shares in one place"
        asked_before[0] += 1
        if there and "still there" in asked:
            assert there[0].stat().st_mode & 0o777 == 0o600
            there[0].rename(taken / there[0].name)
        return ""

    spoken = talk(home, "key", "escrow", "--pages", str(stick), out=tmp_path / "out", answer=answer)
    assert spoken.status == 0, spoken.screen
    pages = [*taken.iterdir(), *stick.iterdir()]
    assert len(pages) == 3
    elsewhere = tmp_path / "clean"
    elsewhere.mkdir()
    given = [part for page in pages[:2] for part in ("--share", str(page))]
    done = drill(elsewhere, str(home.vault("two")), *given, "--report", "r.json", shares=[])
    assert done.returncode == 0, done.stderr


def test_without_a_terminal_no_share_is_made(home: Home) -> None:
    with_escrow(home)
    done = subprocess.run(
        [sys.executable, "-m", "cto_backups", "key", "escrow"],
        env=environment(CTO_BACKUPS_POLICY=str(home.policy)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == int(ExitStatus.USAGE)
    assert "no terminal" in done.stderr


def test_a_policy_without_custodians_says_so(home: Home) -> None:
    answer = home("key", "escrow")
    assert answer.status is ExitStatus.NOT_FOUND
    assert "names no custodians" in answer.err


OFFLINE = """
import socket, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"):
        raise RuntimeError(f"the network was used: {event} {arguments[1:]}")
    ours = (".key", "backups.yaml", "catalog.db")
    if event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(ours):
        raise RuntimeError(f"looked at {arguments[0]}")
sys.addaudithook(refuse)
from cto_backups.cli import main
sys.exit(main.run(sys.argv[1:]))
"""


def test_on_a_clean_place_shares_alone_open_each_vault_and_the_report_counts_at_home(
    handed_out: tuple[Home, Spoken], tmp_path: Path
) -> None:
    home, spoken = handed_out
    assert "never tried" in findings(home, "key-drills")[0]["detail"]
    clean = tmp_path / "clean"
    clean.mkdir()
    for name in VAULTS:
        shutil.copytree(home.vault(name), clean / name, symlinks=True)
    kept = tmp_path / "kept"
    home.root.rename(kept)  # neither key nor policy is anywhere
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, "key", "drill", *VAULTS, "--report", "report.json", "--into", "restored"],
        cwd=clean,
        env=environment(HOME=str(clean)),
        input="\n".join(spoken.shares[1:]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("opened, and") == 3
    for name in VAULTS:
        assert any(path.is_file() for path in (clean / "restored" / name).rglob("*"))
    for words in spoken.shares:
        assert words.split()[0] + " " + words.split()[1] not in done.stdout + done.stderr
    kept.rename(home.root)
    report = clean / "report.json"
    answer = home("key", "drill", "--accept", str(report))
    assert answer.status is ExitStatus.SUCCESS, answer
    assert findings(home, "key-drills") == []
    (told,) = [each for each in records(home, "one") if each["change"] == "drilled"]
    assert told["vaults"] == dict.fromkeys(VAULTS, "")

    document = json.loads(report.read_text())
    document["drill"] = document["drill"].replace('"restored":', '"restored": ')
    report.chmod(0o600)
    report.write_text(json.dumps(document))
    forged = home("key", "drill", "--accept", str(report))
    assert forged.status is ExitStatus.DAMAGE
    assert "does not come from who opened" in forged.err


def test_at_home_a_drill_is_signed_at_once(handed_out: tuple[Home, Spoken]) -> None:
    home, spoken = handed_out
    done = drill(home.data.parent, "--json", shares=spoken.shares[:2], CTO_BACKUPS_POLICY=str(home.policy))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["signed"] is True
    assert findings(home, "key-drills") == []
    for file in home.root.glob("catalog.db*"):
        file.unlink()
    assert home("catalog", "rebuild").status is ExitStatus.SUCCESS
    assert findings(home, "key-drills") == [], "vaults have the record"
    assert findings(home, "key-escrow") == []


def test_a_host_that_may_only_add_hands_out_shares(home: Home, tmp_path: Path) -> None:
    with_escrow(home)
    text = home.policy.read_text()
    home.policy.write_text(text.replace("  two:\n", "  two:\n    access: append-only\n", 1))
    assert "append-only" in home.policy.read_text()
    spoken = talk(home, "key", "escrow", out=tmp_path / "out", answer=copies_well)
    assert spoken.status == 0, spoken.screen
    secret = combine(tuple(map(WordShare.parse, spoken.shares[:2]))).reveal()
    assert opens(home, "two", secret)


def test_too_few_mixed_and_mistyped_shares_open_nothing(handed_out: tuple[Home, Spoken], tmp_path: Path) -> None:
    home, spoken = handed_out
    others = [" ".join(share.words) for share in split(new_secret(), threshold=2, count=2)]
    words = spoken.shares[1].split()
    mistyped = " ".join([*words[:-1], "academic" if words[-1] != "academic" else "zero"])
    for shares, said in (
        (spoken.shares[:1], "1 share is not enough"),
        ([], "0 shares are not enough"),
        ([spoken.shares[0], others[1]], "different sets"),
        ([spoken.shares[0], spoken.shares[0]], "is there already"),
        ([spoken.shares[0], mistyped], "This is no share"),
    ):
        done = drill(tmp_path, str(home.vault("one")), "--report", "r.json", shares=shares)
        assert done.returncode == int(ExitStatus.KEY), done
        assert said in done.stderr
        assert not (tmp_path / "r.json").exists()
        assert all(word not in done.stderr for word in (words[1] + " " + words[2],))
    wrong = drill(tmp_path, str(home.vault("one")), "--report", "r.json", shares=others)
    assert wrong.returncode == int(ExitStatus.VERIFICATION), "sound shares, of another installation"
    assert "does not open" in wrong.stdout


def test_a_rotation_leaves_the_shares_alone_and_a_removed_key_file_is_found(
    handed_out: tuple[Home, Spoken],
) -> None:
    home, spoken = handed_out
    assert home("key", "rotate").status is ExitStatus.SUCCESS
    secret = combine(tuple(map(WordShare.parse, spoken.shares))).reveal()
    assert all(opens(home, name, secret) for name in VAULTS)
    escrowed = [each for each in records(home, "one") if each["change"] == "escrowed"][-1]["keys"]
    assert isinstance(escrowed, dict)
    assert home("key", "remove", escrowed["two"]).status is ExitStatus.SUCCESS
    (found,) = findings(home, "key-escrow")
    assert found["subject"] == "two"
    assert "is gone" in found["detail"]


def test_a_vault_that_came_later_is_found_and_the_shares_that_are_out_open_it(
    handed_out: tuple[Home, Spoken], tmp_path: Path
) -> None:
    home, spoken = handed_out
    four = "  four: {url: file:vaults/four, provider: p, region: r, storage: disk}\n"
    home.policy.write_text(home.policy.read_text().replace("vaults:\n", f"vaults:\n{four}", 1))
    assert home("vault", "init", "four").status is ExitStatus.SUCCESS
    (found,) = findings(home, "key-escrow")
    assert found["subject"] == "four"
    typed = iter(spoken.shares)
    done = talk(
        home, "key", "escrow", "--extend", out=tmp_path / "extended", answer=lambda _asked, _shares: next(typed)
    )
    assert done.status == 0, done.screen
    assert all(words not in done.screen for words in spoken.shares), "what is typed is not shown"
    assert findings(home, "key-escrow") == []


def test_stock_restic_opens_with_what_the_shares_give(handed_out: tuple[Home, Spoken], stock_restic: Path) -> None:
    home, spoken = handed_out
    secret: Secret = combine(tuple(map(WordShare.parse, spoken.shares[:2])))
    restic = Restic(stock_restic, home.vault("one") / "repositories/main", secret.reveal())
    assert restic.snapshots()


def test_a_vault_that_lost_a_file_fails_the_drill_and_the_audit(handed_out: tuple[Home, Spoken]) -> None:
    home, spoken = handed_out
    for pack in home.vault("two").glob("repositories/main/data/*/*"):
        pack.unlink()
    done = drill(home.data.parent, shares=spoken.shares[:2], CTO_BACKUPS_POLICY=str(home.policy))
    assert done.returncode == int(ExitStatus.VERIFICATION)
    assert "two: failed" in done.stdout
    assert "the last drill failed" in next(
        each["detail"] for each in findings(home, "key-drills") if each["subject"] == "two"
    )


def test_a_drill_without_a_policy_needs_a_place_for_its_report(tmp_path: Path) -> None:
    answer = run("key", "drill", str(tmp_path), cwd=tmp_path)
    assert answer.status is ExitStatus.USAGE
    assert "--report" in answer.err
