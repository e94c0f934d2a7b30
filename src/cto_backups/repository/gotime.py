"""Times as Go's JSON writes and reads them: RFC 3339 with up to nine digits of fraction, trailing zeros dropped."""

from datetime import UTC, datetime, timedelta

from cto_backups._native import format_ns, parse_ns

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def format_time(moment: datetime) -> str:
    """An aware datetime. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a moment without time zone")
    since = moment - _EPOCH
    return format_ns((since.days * 86400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000)


def parse_time(text: str) -> datetime:
    """An aware datetime in UTC, to the microsecond. Raises ValueError, OverflowError for what no datetime can be."""
    return _EPOCH + timedelta(microseconds=parse_ns(text) // 1000)
