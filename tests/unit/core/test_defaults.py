"""The defaults, compared with the requirement's own table spelled out again."""

from datetime import timedelta

import pytest

from cto_backups.core.defaults import CATEGORIES, CLASSES
from cto_backups.core.duration import format_cadence
from cto_backups.core.model import Rung
from cto_backups.core.policy import Category
from cto_backups.core.retention import Retention
from cto_backups.core.schedule import At, Continuous, Every, OnChange, longest_gap

DAILY, HOURLY = At(2, 0), Every(timedelta(hours=1))
YEAR = timedelta(days=365)

TABLE = {
    "bigquery-logs": ("BigQuery logs", "A", {Continuous(), DAILY}, Retention(7 * YEAR), "quarterly"),
    "financial-records": ("Financial records", "A", {Continuous(), DAILY}, Retention(7 * YEAR), "monthly"),
    "contracts-legal": ("Contracts / legal", "A", {OnChange(), DAILY}, Retention(permanent=True), "quarterly"),
    "user-data": ("User data", "A", {HOURLY, DAILY}, None, "monthly"),
    "configuration": ("Configuration", "B", {OnChange()}, Retention(timedelta(days=90)), "monthly"),
    "agent-memory": ("Agent memory files", "B", {DAILY}, Retention(timedelta(days=30)), "monthly"),
    "contact-database": ("Contact database", "B", {HOURLY}, Retention(YEAR), "weekly"),
    "calendar-data": ("Calendar data", "B", {OnChange()}, Retention(YEAR), "monthly"),
    "code-repositories": ("Code repositories", "C", {Continuous()}, Retention(permanent=True), "none"),
    "infrastructure-config": ("Infrastructure config", "C", {OnChange()}, Retention(YEAR), "quarterly"),
    "documentation": ("Documentation", "C", {DAILY}, Retention(YEAR), "quarterly"),
}


def test_the_eleven_classes_are_those_of_the_table():
    assert {
        name: (each.title, each.category, set(each.triggers), each.retention, format_cadence(each.test_every))
        for name, each in CLASSES.items()
    } == TABLE
    assert all(name == each.name for name, each in CLASSES.items())


def test_the_categories_are_those_of_the_table():
    hours, days = (lambda number: timedelta(hours=number)), (lambda number: timedelta(days=number))
    assert {
        "A": Category("A", "business critical", hours(1), hours(4), True, 3, 2, True, days(7), Rung.PROVEN),
        "B": Category("B", "operational", hours(24), hours(24), False, 2, 1, True, days(7), Rung.RESTORED),
        "C": Category("C", "development", days(7), hours(72), False, 1, 1, False, days(30), Rung.READ),
    } == CATEGORIES


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_can_meet_the_rpo_of_its_category(name):
    rpo = CATEGORIES[CLASSES[name].category].rpo
    assert longest_gap(CLASSES[name].triggers, rpo) <= rpo
