"""The categories and data classes that every policy has, unless it overrides them."""

from datetime import timedelta

from cto_backups.core.duration import parse_cadence
from cto_backups.core.model import Rung
from cto_backups.core.policy import Category, DataClass
from cto_backups.core.retention import parse_retention
from cto_backups.core.schedule import parse_triggers

CATEGORIES: dict[str, Category] = {
    category.name: category
    for category in (
        Category(
            name="A",
            title="business critical",
            rpo=timedelta(hours=1),
            rto=timedelta(hours=4),
            point_in_time=True,
            copies=3,
            storage_types=2,
            off_site=True,
            read_within=timedelta(days=7),
            rung=Rung.PROVEN,
        ),
        Category(
            name="B",
            title="operational",
            rpo=timedelta(hours=24),
            rto=timedelta(hours=24),
            point_in_time=False,
            copies=2,
            storage_types=1,
            off_site=True,
            read_within=timedelta(days=7),
            rung=Rung.RESTORED,
        ),
        Category(
            name="C",
            title="development",
            rpo=timedelta(days=7),
            rto=timedelta(hours=72),
            point_in_time=False,
            copies=1,
            storage_types=1,
            off_site=False,
            read_within=timedelta(days=30),
            rung=Rung.READ,
        ),
    )
}


def _data_class(title: str, name: str, category: str, triggers: str, retention: str | None, test: str) -> DataClass:
    return DataClass(
        name=name,
        title=title,
        category=category,
        triggers=parse_triggers(triggers),
        retention=parse_retention(retention) if retention else None,
        test_every=parse_cadence(test),
    )


CLASSES: dict[str, DataClass] = {
    data_class.name: data_class
    for data_class in (
        _data_class("BigQuery logs", "bigquery-logs", "A", "continuous, daily", "7 years", "quarterly"),
        _data_class("Financial records", "financial-records", "A", "continuous, daily", "7 years", "monthly"),
        _data_class("Contracts / legal", "contracts-legal", "A", "on change, daily", "permanent", "quarterly"),
        _data_class("User data", "user-data", "A", "hourly, daily", None, "monthly"),
        _data_class("Configuration", "configuration", "B", "on change", "90 days", "monthly"),
        _data_class("Agent memory files", "agent-memory", "B", "daily", "30 days", "monthly"),
        _data_class("Contact database", "contact-database", "B", "hourly", "1 year", "weekly"),
        _data_class("Calendar data", "calendar-data", "B", "on change", "1 year", "monthly"),
        _data_class("Code repositories", "code-repositories", "C", "continuous", "permanent", "none"),
        _data_class("Infrastructure config", "infrastructure-config", "C", "on change", "1 year", "quarterly"),
        _data_class("Documentation", "documentation", "C", "daily", "1 year", "quarterly"),
    )
}
