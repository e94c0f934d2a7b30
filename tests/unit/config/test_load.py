"""A policy file becomes the policy, with every default resolved and every place absolute."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cto_backups.config import load
from cto_backups.config.mistakes import PolicyMistakesError
from cto_backups.core.defaults import CATEGORIES, CLASSES
from cto_backups.core.governance import DESTRUCTIVE, Governance, Governed, GoverningDocument, Who
from cto_backups.core.model import Rung
from cto_backups.core.policy import Access, LockMode, Tls
from cto_backups.core.retention import Retention
from cto_backups.core.schedule import At, Every
from cto_backups.core.windows import Window

Write = Callable[[str], Path]


def test_the_digest_is_that_of_the_bytes_and_the_text_is_kept(policy_file: Write, sound: str) -> None:
    path = policy_file(sound)
    configuration = load(path)
    assert configuration.text == path.read_bytes()
    assert configuration.policy.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert configuration.path == path


def test_a_source_takes_what_it_does_not_say_from_its_class(policy_file: Write, sound: str) -> None:
    source = load(policy_file(sound)).policy.sources["checkout"]
    expected = CLASSES["documentation"]
    assert (source.triggers, source.retention, source.test_every) == (
        expected.triggers,
        expected.retention,
        expected.test_every,
    )
    assert source.category == CATEGORIES["C"]
    assert source.data_class == "documentation"
    assert source.vaults == ("one", "two")


def test_a_source_overrides_each_default_of_its_class(policy_file: Write, sound: str) -> None:
    text = sound.replace(
        "    exclude:",
        "    category: B\n    triggers: [hourly, daily at 02:30]\n    retention: 30 versions\n    test: 45 days\n"
        "    owner: cto@example.com\n    vaults: [two]\n    exclude:",
    )
    source = load(policy_file(text)).policy.sources["checkout"]
    assert source.category == CATEGORIES["B"]
    assert source.triggers == (Every(timedelta(hours=1)), At(2, 30))
    assert source.retention == Retention(versions=30)
    assert source.test_every == timedelta(days=45)
    assert (source.owner, source.vaults) == ("cto@example.com", ("two",))


def test_windows_of_heavy_work_are_times_of_the_day_and_days_of_the_week(policy_file: Write, sound: str) -> None:
    assert load(policy_file(sound)).policy.worker.heavy_work == ()
    section = 'worker:\n  heavy_work: [{from: "22:00", to: "06:30"}, {days: [saturday, sunday]}]\n'
    night, weekend = load(policy_file(sound + section)).policy.worker.heavy_work
    assert night == Window(22 * 60, 6 * 60 + 30, frozenset(range(7)))
    assert weekend == Window(None, None, frozenset({5, 6}))


def test_tests_can_be_switched_off_by_name_only(policy_file: Write, sound: str) -> None:
    text = sound.replace("    exclude:", "    test: none\n    exclude:")
    assert load(policy_file(text)).policy.sources["checkout"].test_every is None


def test_places_start_at_the_folder_of_the_file_or_at_home(
    policy_file: Write, sound: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    configuration = load(policy_file(sound))
    sources, settings = configuration.policy.sources, configuration.settings
    assert sources["checkout"].options == {
        "paths": ("/srv/app", "/home/ada/notes", str(tmp_path / "papers")),
        "include": (),
        "exclude": ("*.pyc", ".venv"),
        "one_file_system": False,
    }
    assert sources["app-repo"].options == {"url": str(tmp_path.parent / "app.git"), "lfs": "auto"}
    assert sources["ledger"].options == {"path": str(tmp_path / "ledger.db"), "lock_seconds": 30.0}
    assert sources["ledger"].vaults == ("one",)
    assert settings.home == tmp_path
    assert settings.catalog_url == f"sqlite:{tmp_path}/catalog.db"
    assert settings.state == tmp_path / "state"
    assert configuration.policy.vaults["one"].url == f"file:{tmp_path}/vaults/one"


def test_places_do_not_depend_on_the_current_folder(
    policy_file: Write, sound: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = policy_file(sound)
    monkeypatch.chdir(tmp_path)
    assert load(Path(path.name)) == load(path)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://example.com/app.git", "https://example.com/app.git"),
        ("ssh://git@example.com/app.git", "ssh://git@example.com/app.git"),
        ("git@example.com:app.git", "git@example.com:app.git"),
        ("file:///srv/git/app.git", "file:///srv/git/app.git"),
        ("/srv/git//app.git/", "/srv/git/app.git"),
    ],
)
def test_a_git_url_stays_and_a_path_becomes_absolute(policy_file: Write, sound: str, written: str, read: str) -> None:
    options = load(policy_file(sound.replace("../app.git", f'"{written}"'))).policy.sources["app-repo"].options
    assert options["url"] == read


def test_the_settings_of_a_vault_reach_the_policy(policy_file: Write, sound: str) -> None:
    vault = load(policy_file(sound)).policy.vaults["two"]
    assert (vault.name, vault.url, vault.provider, vault.region, vault.storage, vault.off_site, vault.lock_mode) == (
        *("two", "file:/mnt/disk", "usb", "home", "tape"),
        True,
        LockMode.NONE,
    )


def test_keys_are_kept_as_references(policy_file: Write, sound: str) -> None:
    settings = load(policy_file(sound)).settings
    assert (str(settings.repository_key), str(settings.evidence_key)) == (
        "file:keys/repository.key",
        "env:EVIDENCE_KEY",
    )


def test_built_in_categories_are_overridden_setting_by_setting(policy_file: Write, sound: str) -> None:
    text = sound + "categories: {A: {rpo: 30 minutes, rung: serving}, crown: {based_on: A, rto: 1 h}}\n"
    categories = load(policy_file(text)).policy.categories
    assert (categories["A"].rpo, categories["A"].rung) == (timedelta(minutes=30), Rung.SERVING)
    assert categories["A"].rto == CATEGORIES["A"].rto
    assert (categories["crown"].rpo, categories["crown"].rto) == (timedelta(minutes=30), timedelta(hours=1))
    assert categories["crown"].title == "crown"
    assert categories["B"] == CATEGORIES["B"]
    assert list(categories) == ["A", "B", "C", "crown"]


def test_a_category_may_stand_before_the_one_it_is_based_on(policy_file: Write, sound: str) -> None:
    text = sound + "categories: {top: {based_on: middle}, middle: {based_on: C, rpo: 2 days}}\n"
    assert load(policy_file(text)).policy.categories["top"].rpo == timedelta(days=2)


def test_a_category_that_says_everything_needs_no_base(policy_file: Write, sound: str) -> None:
    text = sound + (
        "categories: {own: {rpo: 2 h, rto: 3 h, point_in_time: false, copies: 2, storage_types: 1, off_site: false, "
        "read_within: 9 days, rung: read}}\n"
    )
    own = load(policy_file(text)).policy.categories["own"]
    assert (own.rpo, own.copies, own.read_within) == (timedelta(hours=2), 2, timedelta(days=9))


def test_classes_are_overridden_and_added(policy_file: Write, sound: str) -> None:
    text = sound + "classes: {documentation: {retention: 2 years}, design: {based_on: documentation, test: weekly}}\n"
    policy = load(policy_file(text)).policy
    assert policy.sources["checkout"].retention == Retention(keep_for=timedelta(days=730))
    assert policy.classes["design"].test_every == timedelta(days=7)
    assert policy.classes["design"].retention == Retention(keep_for=timedelta(days=730))
    assert policy.classes["documentation"].title == "Documentation"


def test_user_data_needs_a_retention_and_takes_one_from_its_own_class(policy_file: Write, sound: str) -> None:
    text = sound.replace("class: financial-records", "class: user-data")
    with pytest.raises(PolicyMistakesError, match="does not say how long"):
        load(policy_file(text))
    assert load(policy_file(text + "classes: {user-data: {retention: 3 years}}\n")).policy.sources["ledger"]


def test_a_source_without_a_class_says_the_rest_itself(policy_file: Write, sound: str) -> None:
    text = sound.replace(
        "    class: documentation\n",
        "    category: B\n    triggers: daily\n    retention: permanent\n    test: none\n",
    )
    source = load(policy_file(text)).policy.sources["checkout"]
    assert (source.data_class, source.category.name, source.test_every) == (None, "B", None)


def test_an_exclusion_holds_to_the_end_of_its_last_day(policy_file: Write, sound: str) -> None:
    text = sound + 'exclude:\n  - {resource: "sqlite:old.db", reason: gone, owner: ada, until: 2027-01-01}\n'
    path = policy_file(text)
    (exclusion,) = load(path).policy.exclusions
    # Midnight in Berlin, in winter, is 23:00 of the day before in UTC.
    assert exclusion.until.astimezone(UTC) == datetime(2027, 1, 1, 23, tzinfo=UTC)
    assert exclusion.resource == f"sqlite:{path.parent}/old.db"


def test_an_exclusion_may_end_at_a_moment(policy_file: Write, sound: str) -> None:
    text = sound + 'exclude:\n  - {resource: "git:git@h:a.git", reason: g, owner: a, until: "2027-06-01T12:00+00:00"}\n'
    (exclusion,) = load(policy_file(text)).policy.exclusions
    assert exclusion.until == datetime(2027, 6, 1, 12, tzinfo=UTC)
    assert exclusion.resource == "git:git@h:a.git"


def test_an_exclusion_may_name_what_a_command_printed(policy_file: Write, sound: str) -> None:
    """It has a name and no place, so the name is left as it is."""
    text = sound + "exclude:\n  - {resource: command:app/app.dump, reason: r, owner: o, until: 2027-06-01}\n"
    (exclusion,) = load(policy_file(text)).policy.exclusions
    assert exclusion.resource == "command:app/app.dump"


def test_aliases_and_merges_are_understood(policy_file: Write, sound: str) -> None:
    text = sound.replace("  checkout:\n", "  checkout: &files\n").replace(
        "  app-repo:", "  papers:\n    <<: *files\n    paths: [/srv/papers]\n  app-repo:"
    )
    policy = load(policy_file(text)).policy
    assert policy.sources["papers"].options["paths"] == ("/srv/papers",)
    assert policy.sources["papers"].options["exclude"] == policy.sources["checkout"].options["exclude"]


def test_what_yaml_1_1_would_misread_is_read_as_it_is_written(policy_file: Write, sound: str) -> None:
    text = sound.replace("url: ../app.git", "url: ../app.git, lfs: no, owner: 02:00")
    source = load(policy_file(text)).policy.sources["app-repo"]
    assert (source.options["lfs"], source.owner) == ("no", "02:00")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_byte_order_marks_and_line_ends_do_not_matter(policy_file: Write, sound: str, mark: str, ending: str) -> None:
    policy = load(policy_file(mark + sound.replace("\n", ending))).policy
    assert list(policy.sources) == ["checkout", "app-repo", "ledger"]


def test_a_policy_with_very_many_sources_loads(policy_file: Write, sound: str) -> None:
    many = "".join(f"  s{n}: {{kind: git, class: code-repositories, url: /srv/{n}.git}}\n" for n in range(500))
    assert len(load(policy_file(sound + many)).policy.sources) == 503


def test_importing_config_and_the_commands_loads_neither_pydantic_nor_ruamel() -> None:
    program = (
        "import sys, cto_backups.config, cto_backups.config.secrets, cto_backups.cli.main\n"
        "print([name for name in sys.modules if name.split('.')[0] in {'pydantic', 'pydantic_core', 'ruamel'}])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_governance_is_none_until_it_is_written(policy_file: Write, sound: str) -> None:
    assert load(policy_file(sound)).policy.governance is None
    assert load(policy_file(sound + "governance: {approvers: [ada]}\n")).policy.governance == Governance(
        approvers=("ada",)
    )


def test_governance_names_documents_actions_and_people(policy_file: Write, sound: str, tmp_path: Path) -> None:
    text = """\
governance:
  documents:
    - {path: rules/ethics.md}
    - {path: /srv/AGENTS.md, governs: [prune, key-removal]}
  approvals: {prune: anyone, key-removal: second-person, document-change: second-person}
  approvers: [ada, "1003"]
  approval_valid_for: 8 h
"""
    governance = load(policy_file(sound + text)).policy.governance
    assert governance == Governance(
        documents=(
            GoverningDocument("rules/ethics.md", str(tmp_path / "rules/ethics.md"), frozenset(DESTRUCTIVE)),
            GoverningDocument("/srv/AGENTS.md", "/srv/AGENTS.md", frozenset({Governed.PRUNE, Governed.KEY_REMOVAL})),
        ),
        approvals={
            Governed.PRUNE: Who.ANYONE,
            Governed.KEY_REMOVAL: Who.SECOND_PERSON,
            Governed.DOCUMENT_CHANGE: Who.SECOND_PERSON,
        },
        approvers=("ada", "1003"),
        valid_for=timedelta(hours=8),
    )


def test_each_action_can_need_an_approval(policy_file: Write, sound: str) -> None:
    """What the file may say, and what there is, are the same."""
    lines = "".join(f"    {action}: anyone\n" for action in Governed)
    governance = load(policy_file(f"{sound}governance:\n  approvals:\n{lines}")).policy.governance
    assert governance is not None
    assert set(governance.approvals) == set(Governed)
    every = ", ".join(DESTRUCTIVE)
    documents = f"governance: {{documents: [{{path: a, governs: [{every}]}}]}}\n"
    loaded = load(policy_file(sound + documents)).policy.governance
    assert loaded is not None
    assert loaded.documents[0].governs == frozenset(DESTRUCTIVE)


def test_servers_and_volumes_are_excluded_by_the_names_that_the_audit_prints(policy_file: Write, sound: str) -> None:
    names = (
        "postgresql:/run/postgresql/.s.PGSQL.5432",
        "mysql:127.0.0.1:3306",
        "mysql:db.example.com:3306/a b",
        "volume:/volumes/shop/_data",
        "bigquery:acme-analytics.logs.tmp_*",
    )
    written = "".join(f"  - {{resource: '{name}', reason: dumped, owner: ada, until: 2030-01-01}}\n" for name in names)
    excluded = load(policy_file(f"{sound}exclude:\n{written}")).policy.exclusions
    assert tuple(each.resource for each in excluded) == names


def test_what_is_said_of_repositories_is_what_is_said_of_vaults(policy_file: Write, sound: str) -> None:
    payroll = """
sources:
  payroll:
    kind: pgbackrest
    class: documentation
    stanza: main
    config: backups/pgbackrest.conf
    backup_every: 26 h
    repositories:
      repo1: {provider: local, region: here, storage: disk}
      repo2: {provider: aws, region: far, storage: objects, off_site: true, lock: compliance, access: append-only}
"""
    path = policy_file(sound.replace("\nsources:\n", payroll, 1))
    source = load(path).policy.sources["payroll"]
    near, far = source.repositories["repo1"], source.repositories["repo2"]
    assert (near.provider, near.region, near.storage, near.off_site) == ("local", "here", "disk", False)
    assert (near.lock_mode, near.access) == (LockMode.NONE, Access.FULL)
    assert (far.off_site, far.lock_mode, far.access) == (True, LockMode.COMPLIANCE, Access.APPEND_ONLY)
    assert far.name == "pgBackRest's repo2"
    assert source.options["config"] == str(path.parent / "backups/pgbackrest.conf")
    assert (source.options["backup_every"], source.options["sums_every"], source.options["host"]) == (93600.0, None, "")
    assert not load(path).policy.sources["checkout"].repositories


def test_a_vault_may_lie_in_a_bucket(policy_file: Write, sound: str) -> None:
    stored = """
  cloud: {url: "s3://acme-backups/office/", provider: aws, region: eu-central-1, storage: object-storage}
  own:
    url: s3://acme-backups
    provider: own
    region: us-east-1
    storage: object-storage
    endpoint: https://s3.office.example:9000/
    tls: 1.2
    access_key: env:BACKUPS_KEY
    secret_key: file:keys/s3.secret
  near: {url: "gs://acme", provider: own, region: a, storage: objects, endpoint: "http://127.0.0.1:1", tls: none}
"""
    vaults = load(policy_file(sound.replace("\nsources:", stored + "\nsources:"))).policy.vaults
    cloud, own, near = vaults["cloud"], vaults["own"], vaults["near"]
    assert (cloud.url, cloud.endpoint, cloud.tls, cloud.logins) == ("s3://acme-backups/office", None, Tls.V1_3, {})
    assert (own.url, own.endpoint, own.tls) == ("s3://acme-backups", "https://s3.office.example:9000", Tls.V1_2)
    assert {setting: str(reference) for setting, reference in own.logins.items()} == {
        "access_key": "env:BACKUPS_KEY",
        "secret_key": "file:keys/s3.secret",
    }
    assert (near.url, near.tls) == ("gs://acme", Tls.NONE)
    assert vaults["one"].tls is None


def test_a_vault_may_have_a_key_of_its_own(policy_file, sound):
    """Key services wrap many secrets with one key: a vault may name those of the shared secret, beside its own."""
    service = "aws-kms:arn:aws:kms:us-west-2:111122223333:alias/backups"
    text = sound.replace("storage: tape,", f'storage: tape, key: ["file:keys/two.key", "{service}"],', 1)
    settings = load(policy_file(text)).settings
    assert str(settings.key_of("two")) == f"file:keys/two.key, {service}"
    assert settings.key_of("one") == settings.repository_key
    assert list(settings.by_key(["two", "one"]).values()) == [["one"], ["two"]]
