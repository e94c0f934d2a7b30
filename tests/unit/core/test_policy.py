from datetime import timedelta

import pytest

from cto_backups.core.defaults import CLASSES
from cto_backups.core.governance import Governance
from cto_backups.core.policy import Access, LockMode, check_policy, unstated_retention
from cto_backups.core.retention import Retention


def test_a_sound_policy_has_no_violations(build):
    assert check_policy(build.policy()) == ()
    assert build.vault("near").lock_mode is LockMode.NONE


def test_triggers_that_cannot_meet_the_rpo_are_a_violation_with_both_figures(build):
    (violation,) = check_policy(build.policy(build.source(triggers="weekly on monday")))
    assert (violation.source, violation.field) == ("ledger", "triggers")
    assert "cannot meet its RPO" in violation.what
    assert "'weekly on monday at 02:00' leaves up to 7 days" in violation.why
    assert "category B is 24 h" in violation.why
    assert "at least every 24 h" in violation.todo


@pytest.mark.parametrize("triggers", ["daily", "on change", "weekly, every 3 h"])
def test_triggers_that_meet_the_rpo_are_none(build, triggers):
    assert check_policy(build.policy(build.source(triggers=triggers))) == ()


def test_a_source_needs_triggers_and_vaults(build):
    violations = check_policy(build.policy(build.source(triggers=(), vaults=())))
    assert [violation.field for violation in violations] == ["vaults", "triggers"]


def test_fewer_vaults_than_copies_asked_for_is_for_the_audit_to_say(build):
    assert check_policy(build.policy(build.source(category="A", triggers="hourly", vaults=("near",)))) == ()


def test_user_data_must_state_its_retention():
    violation = unstated_retention("crm", CLASSES["user-data"], None)
    assert violation.field == "retention"
    assert "user-data" in violation.why
    assert unstated_retention("crm", CLASSES["user-data"], Retention(timedelta(days=9))) is None
    assert unstated_retention("crm", CLASSES["documentation"], None) is None
    assert "no data class" in unstated_retention("crm", None, None).why


def test_a_policy_knows_to_which_vaults_this_host_may_only_add(build):
    policy = build.policy(vaults=(build.vault("near"), build.vault("far", access=Access.APPEND_ONLY)))
    assert [policy.append_only(name) for name in ("near", "far", "a former one")] == [False, True, False]


def test_a_policy_under_other_rules_is_the_same_one(build):
    policy = build.policy(build.source())
    rules = Governance(approvers=("ada",))
    governed = policy.governed_by(rules)
    assert governed.governance == rules
    assert governed.governed_by(None) == policy


def test_the_folders_of_a_vault_in_which_others_lie_are_theirs(build):
    around = build.vault("around", url="s3://acme/office")
    policy = build.policy(
        vaults=(
            around,
            build.vault("of-web1", url="s3://acme/office/hosts/web1/"),
            build.vault("beside", url="s3://acme/office-2"),
            build.vault("elsewhere", url="s3://acme/office/hosts/web2", endpoint="https://s3.office.example"),
        )
    )
    assert policy.within("around") == ("hosts/web1/",)
    assert policy.within("of-web1") == policy.within("beside") == ()
