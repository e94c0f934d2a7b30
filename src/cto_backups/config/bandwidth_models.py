"""The policy file's shape of a vault's bandwidth limits; see `models`."""

from typing import Annotated, Literal

from pydantic import Field

from cto_backups.config.fields import Surroundings, Text, TimeOfDay
from cto_backups.config.part import Part
from cto_backups.config.problems import problem
from cto_backups.core.bandwidth import parse_rate


def _rate(value: str, _around: Surroundings | None) -> None:
    try:
        parse_rate(value)
    except ValueError as error:
        raise problem(str(error)) from error


Rate = Annotated[str, Text(_rate, examples=("20 MiB/s", "100 Mbit/s"))]
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class BandwidthLimit(Part):
    """How fast what travels to and from a vault may go; of several, the first that holds now and speaks of a way."""

    begin: TimeOfDay | None = Field(default=None, alias="from", examples=["08:00"])
    """From what time of day on it holds, in the time zone of `timezone`; all day when left out."""
    end: TimeOfDay | None = Field(default=None, alias="to", examples=["18:00"])
    """When that ends; may be on the next day."""
    days: Annotated[list[Weekday], Field(min_length=1)] | None = Field(default=None, examples=[["monday", "friday"]])
    """The days of the week on which it begins; every day when left out."""
    limit: Rate | None = None
    """How much a second may travel each way: KiB/s, MiB/s, MB/s, Mbit/s and the like."""
    up: Rate | None = None
    """How much may travel to the vault, where it is not `limit`."""
    down: Rate | None = None
    """How much may travel from it, where it is not `limit`."""
