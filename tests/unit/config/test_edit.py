"""Edits of a policy file change what they must, and not a character more."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cto_backups.config import load
from cto_backups.config.edit import save, set_triggers, with_source, with_vault
from cto_backups.core.schedule import format_triggers
from cto_backups.errors import NotFoundError, PolicyError, RefusedError

Write = Callable[[str], Path]

UGLY = """\
%YAML 1.2
# The policy of Acme.     <- trailing blanks matter to nobody, but stay   \n\
---
version:      1          # aligned by hand
'business' : "acme"      # quoted for no reason


keys: { repository : 'file:keys/repository.key',   # inside braces
        "evidence": file:keys/evidence.key }
    # an odd comment
vaults:
    one:   {url: "file:vaults/one", provider: local-disk, region: this-machine,
            storage: disk,}     # trailing comma
    two:
       url     :   file:vaults/two
       provider:   local-disk
       region  :   this-machine
       storage :   disk
#commented: out

sources:
      # the shop
      checkout:
          kind:     files           # files | git | sqlite
          class:    'documentation' # why: nobody knows
          triggers: "daily at 03:00"    # not at night: the batch runs then
          paths:
          - /srv/app
          # - /srv/old
          -   "/srv/other"
      'app-repo': {kind: git, class: code-repositories,
                   url: /srv/git/app.git}   # the code
      listed:
          kind: sqlite
          class: configuration
          triggers:        # when: people work
            # all of it
            - hourly       # lunch
            # - every 5 minutes
            - 'daily at 02:00'   # night
          path: /srv/listed.db
      folded: {kind: sqlite, class: documentation, triggers: [daily,
          weekly], path: /srv/f.db}
      block:
          kind: sqlite
          class: documentation
          triggers: >-
            daily,
            weekly
          # about the block
          path: /srv/b.db
          # the end of block

# That is all.
# exclude: []
"""


def lines_that_differ(before: str, after: str) -> list[tuple[str, str]]:
    old, new = before.split("\n"), after.split("\n")
    assert len(old) == len(new)
    return [(one, other) for one, other in zip(old, new, strict=True) if one != other]


def test_only_the_line_of_the_triggers_differs_in_an_ugly_file(policy_file: Write) -> None:
    path = policy_file(UGLY)
    change = set_triggers(path, "checkout", "hourly, daily at 02:00")
    assert lines_that_differ(UGLY, path.read_text()) == [
        (
            '          triggers: "daily at 03:00"    # not at night: the batch runs then',
            '          triggers: "hourly, daily at 02:00"    # not at night: the batch runs then',
        )
    ]
    assert (change.setting, change.before, change.after) == (
        "sources.checkout.triggers",
        "daily at 03:00",
        "hourly, daily at 02:00",
    )


def _add_source(path: Path, name: str, mapping: dict[str, object]) -> None:
    before = load(path)
    save(before, with_source(before, name, mapping))


def _add_vault(path: Path, name: str, mapping: dict[str, str]) -> None:
    before = load(path)
    save(before, with_vault(before, name, mapping))


@pytest.mark.parametrize("source", ["checkout", "app-repo", "listed", "folded", "block"])
def test_each_way_to_write_triggers_can_be_changed_and_keeps_every_comment(policy_file: Write, source: str) -> None:
    path = policy_file(UGLY)
    before = load(path).policy
    set_triggers(path, source, "every 30 minutes, daily at 02:15")
    after = load(path).policy
    assert format_triggers(after.sources[source].triggers) == "every 30 minutes, daily at 02:15"
    assert {name: policy for name, policy in after.sources.items() if name != source} == {
        name: policy for name, policy in before.sources.items() if name != source
    }
    comments = [line.partition("#")[2].strip() for line in UGLY.splitlines() if "#" in line]
    written = path.read_text()
    for comment in comments:
        assert comment in written


def test_a_list_of_several_lines_becomes_one_line_and_its_comments_stay_below(policy_file: Write) -> None:
    path = policy_file(UGLY)
    set_triggers(path, "listed", "hourly")
    assert (
        '          triggers: "hourly"  # when: people work\n'
        "            # all of it\n            # lunch\n            # - every 5 minutes\n            # night\n"
        "          path: /srv/listed.db\n"
    ) in path.read_text()


def test_triggers_that_came_from_the_class_get_a_line_of_their_own(policy_file: Write, sound: str) -> None:
    path = policy_file(sound)
    set_triggers(path, "checkout", "hourly")
    assert path.read_text() == sound.replace(
        "    class: documentation\n", "    class: documentation\n    triggers: hourly\n"
    )


def test_triggers_are_added_inside_braces(policy_file: Write, sound: str) -> None:
    path = policy_file(sound)
    set_triggers(path, "app-repo", "hourly, weekly")
    assert path.read_text() == sound.replace(
        "class: code-repositories,", 'class: code-repositories, triggers: "hourly, weekly at 02:00",'
    ).replace("weekly at 02:00", "weekly")


@pytest.mark.parametrize("quote", ["'", '"'])
def test_the_kind_of_quotes_stays(policy_file: Write, sound: str, quote: str) -> None:
    text = sound.replace("    exclude:", f"    triggers: {quote}daily{quote}\n    exclude:")
    path = policy_file(text)
    set_triggers(path, "checkout", "hourly")
    assert path.read_text() == text.replace("daily", "hourly")


def test_carriage_returns_and_the_byte_order_mark_stay(policy_file: Write, sound: str) -> None:
    text = "\ufeff" + sound.replace("\n", "\r\n")
    path = policy_file(text)
    set_triggers(path, "checkout", "hourly")
    _add_source(path, "more", {"kind": "git", "class": "code-repositories", "url": "/srv/more.git"})
    raw = path.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbfversion")
    assert raw.count(b"\n") == raw.count(b"\r\n")


def test_a_file_without_a_last_line_end_can_be_edited(policy_file: Write, sound: str) -> None:
    path = policy_file(sound.rstrip("\n"))
    set_triggers(path, "ledger", "every 10 minutes")
    _add_source(path, "more", {"kind": "git", "class": "code-repositories", "url": "/srv/more.git"})
    assert list(load(path).policy.sources)[-1] == "more"


@pytest.mark.parametrize("triggers", ["*/15 8-18 * * mon-fri, @hourly", "@hourly", "0,30 * * * *"])
def test_cron_expressions_are_written_as_the_file_can_hold_them(policy_file: Write, sound: str, triggers: str) -> None:
    path = policy_file(sound)
    assert set_triggers(path, "ledger", triggers).after == triggers
    assert format_triggers(load(path).policy.sources["ledger"].triggers) == triggers


@pytest.mark.parametrize(
    ("triggers", "reason"), [("daly", "is no trigger"), ("weekly", "cannot meet its RPO"), ("", "is no trigger")]
)
def test_triggers_that_would_not_load_are_refused_and_the_file_stays(
    policy_file: Write, sound: str, triggers: str, reason: str
) -> None:
    path = policy_file(sound)
    with pytest.raises(PolicyError) as raised:
        set_triggers(path, "ledger", triggers)
    assert reason in f"{raised.value.what} {raised.value.why}"
    assert path.read_text() == sound
    assert [file.name for file in path.parent.iterdir()] == ["backups.yaml"]


def test_an_unknown_source_is_told_with_the_closest_name(policy_file: Write, sound: str) -> None:
    with pytest.raises(NotFoundError) as raised:
        set_triggers(policy_file(sound), "chekout", "hourly")
    assert "did you mean 'checkout'?" in raised.value.what


def test_triggers_that_another_source_repeats_are_not_changed(policy_file: Write, sound: str) -> None:
    text = sound.replace("    exclude:", "    triggers: &t daily\n    exclude:").replace(
        "url: ../app.git", "url: ../app.git, triggers: *t"
    )
    path = policy_file(text)
    with pytest.raises(PolicyError):
        set_triggers(path, "checkout", "hourly")
    assert path.read_text() == text
    set_triggers(path, "app-repo", "hourly")
    assert path.read_text() == text.replace("*t", "hourly")


def test_a_source_that_is_another_one_by_alias_is_not_changed_behind_its_back(policy_file: Write, sound: str) -> None:
    text = sound.replace("  checkout:\n", "  checkout: &files\n").replace("  app-repo:", "  twin: *files\n  app-repo:")
    path = policy_file(text)
    for name in ("checkout", "twin"):
        with pytest.raises(PolicyError):
            set_triggers(path, name, "hourly")
    assert path.read_text() == text


def test_merged_triggers_are_overridden_where_the_source_stands(policy_file: Write, sound: str) -> None:
    text = sound.replace("  checkout:\n", "  checkout: &files\n    triggers: daily\n").replace(
        "  app-repo:", "  twin:\n    kind: files\n    <<: *files\n  app-repo:"
    )
    path = policy_file(text)
    set_triggers(path, "twin", "hourly")
    sources = load(path).policy.sources
    assert format_triggers(sources["twin"].triggers) == "hourly"
    assert format_triggers(sources["checkout"].triggers) == "daily at 02:00"


def test_a_source_whose_kind_is_merged_gets_its_triggers_before_its_first_setting(
    policy_file: Write, sound: str
) -> None:
    text = sound.replace("  checkout:\n", "  checkout: &files\n").replace(
        "  app-repo:", "  twin:\n    <<: *files\n    paths: [/srv/twin]\n  app-repo:"
    )
    path = policy_file(text)
    set_triggers(path, "twin", "hourly")
    assert path.read_text() == text.replace("    paths: [/srv/twin]", "    triggers: hourly\n    paths: [/srv/twin]")


def test_mode_and_link_stay(policy_file: Write, sound: str, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    path = policy_file(sound).rename(real / "policy.yaml")
    path.chmod(0o640)
    link = tmp_path / "backups.yaml"
    link.symlink_to(path)
    set_triggers(link, "checkout", "hourly")
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert "triggers: hourly" in path.read_text()
    assert [file.name for file in real.iterdir()] == ["policy.yaml"]


def test_a_file_that_changed_in_between_is_not_overwritten(
    policy_file: Write, sound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = policy_file(sound)
    theirs = sound.replace("acme", "zenith")
    from cto_backups.config import splicing

    original = splicing.with_triggers

    def meanwhile(text: str, source: str, triggers: str) -> str:
        path.write_text(theirs)
        return original(text, source, triggers)

    monkeypatch.setattr(splicing, "with_triggers", meanwhile)
    with pytest.raises(PolicyError, match="changed by somebody else"):
        set_triggers(path, "checkout", "hourly")
    assert path.read_text() == theirs


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(policy_file: Write, sound: str) -> None:
    path = policy_file(sound)
    path.parent.chmod(0o500)
    try:
        with pytest.raises(PolicyError, match="cannot be written"):
            set_triggers(path, "checkout", "hourly")
    finally:
        path.parent.chmod(0o700)


def test_a_full_disk_leaves_the_file_as_it_was(policy_file: Write, sound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = policy_file(sound)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PolicyError, match="No space left"):
        set_triggers(path, "checkout", "hourly")
    assert path.read_text() == sound
    assert [file.name for file in path.parent.iterdir()] == ["backups.yaml"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    source=st.sampled_from(["checkout", "app-repo", "listed", "folded", "block"]),
    triggers=st.lists(
        st.sampled_from(
            ["continuous", "on change", "hourly", "every 15 minutes", "daily at 23:59", "weekly on friday"]
        ),
        min_size=1,
        max_size=4,
        unique=True,
    ),
)
def test_any_triggers_of_any_source_are_set_alone_or_refused(
    policy_file: Write, source: str, triggers: list[str]
) -> None:
    path = policy_file(UGLY)
    before = load(path).policy
    try:
        change = set_triggers(path, source, ", ".join(triggers))
    except PolicyError as error:
        assert "cannot meet its RPO" in error.why
        assert path.read_text() == UGLY
        return
    after = load(path).policy
    assert format_triggers(after.sources[source].triggers) == change.after
    assert [after.sources[name] == policy for name, policy in before.sources.items()].count(False) <= 1
    assert "# That is all." in path.read_text()


def test_a_source_is_added_after_the_last_one_and_its_comments(policy_file: Write) -> None:
    path = policy_file(UGLY)
    _add_source(path, "notes", {"kind": "files", "class": "documentation", "paths": ["~/notes", "a: b"]})
    assert path.read_text() == UGLY.replace(
        "          # the end of block\n",
        "          # the end of block\n      notes:\n          kind: files\n          class: documentation\n"
        '          paths: [~/notes, "a: b"]\n',
    )


def test_a_source_is_added_inside_braces(policy_file: Write, sound: str) -> None:
    head = sound[: sound.index("sources:")]
    text = head + "sources: {a: {kind: git, class: code-repositories, url: /srv/a.git,},}  # all\n"
    path = policy_file(text)
    _add_source(path, "b", {"kind": "git", "class": "code-repositories", "url": "/srv/b.git"})
    assert path.read_text() == head + (
        "sources: {a: {kind: git, class: code-repositories, url: /srv/a.git,}, "
        "b: {kind: git, class: code-repositories, url: /srv/b.git},}  # all\n"
    )


def test_a_source_that_is_there_is_not_added_again(policy_file: Write, sound: str) -> None:
    with pytest.raises(RefusedError):
        _add_source(policy_file(sound), "ledger", {"kind": "sqlite", "path": "/x"})


@pytest.mark.parametrize(
    ("name", "mapping", "reason"),
    [
        ("new", {"kind": "files", "class": "documentation"}, "paths is missing"),
        ("new", {"kind": "sqlite", "class": "user-data", "path": "/x"}, "does not say how long"),
        ("not a name", {"kind": "sqlite", "class": "documentation", "path": "/x"}, "is no name"),
        ("new", {"kind": "sqlite", "class": "documentation", "path": "/x\nexclude: []"}, "line break"),
    ],
)
def test_a_source_that_would_not_load_is_refused_and_the_file_stays(
    policy_file: Write, sound: str, name: str, mapping: dict[str, object], reason: str
) -> None:
    path = policy_file(sound)
    with pytest.raises(PolicyError) as raised:
        _add_source(path, name, mapping)
    assert reason in raised.value.why
    assert path.read_text() == sound


DISK = {
    "url": "file:/mnt/disk: 1",
    "provider": "local-disk",
    "region": "here",
    "storage": "disk",
    "repository": ".",
}


def test_a_vault_is_added_after_the_last_one_and_nothing_else_changes(policy_file: Write) -> None:
    path = policy_file(UGLY)
    _add_vault(path, "disk", DISK)
    before, after = UGLY.splitlines(), path.read_text().splitlines()
    added = [line for line in after if line not in before]
    assert [line for line in after if line in before] == before
    assert added[0] == "    disk:"
    assert load(path).policy.vaults["disk"].repository == "."
    assert load(path).policy.vaults["one"].repository == "repositories/main"
    assert load(path).policy.sources["checkout"].vaults[-1] == "disk"


def test_a_vault_that_is_there_or_is_no_vault_is_not_added(policy_file: Write) -> None:
    path = policy_file(UGLY)
    with pytest.raises(RefusedError):
        _add_vault(path, "one", DISK)
    for repository in ("/abs", "../out", "a//b"):
        with pytest.raises(PolicyError, match="no place inside a vault"):
            _add_vault(path, "disk", DISK | {"repository": repository})
    assert path.read_text() == UGLY
