"""The policy file's shape of what a vault's provider charges; see `models`."""

from typing import Annotated

from pydantic import Field

from cto_backups.config.fields import Line
from cto_backups.config.part import Part

Price = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class Prices(Part):
    """What a vault's provider charges; from your contract, since none is assumed."""

    currency: Line = Field(examples=["USD"])
    """In which currency the prices are."""
    storage: Price = Field(examples=[0.023])
    """For a GiB (2^30 bytes) stored for a month."""
    egress: Price = Field(default=0.0, examples=[0.09])
    """For a GiB read from there."""
    writes: Price = Field(default=0.0, examples=[0.005])
    """For a thousand requests that write or list."""
    reads: Price = Field(default=0.0, examples=[0.0004])
    """For a thousand requests that read."""
