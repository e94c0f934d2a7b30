"""The policy file's section on escrow, built."""

from cto_backups.config.building import Builder
from cto_backups.config.models import Escrow as Given
from cto_backups.core.duration import parse_cadence
from cto_backups.core.escrow import Escrow

_PLACE = ("keys", "escrow")


def built_escrow(builder: Builder, given: Given | None) -> Escrow | None:
    """Who holds shares; what does not fit together is objected to."""
    if given is None:
        return None
    seen: set[str] = set()
    for number, name in enumerate(given.custodians):
        if name in seen:
            builder.refuse((*_PLACE, "custodians", number), f"{name} is named twice", "Each custodian holds one share.")
        seen.add(name)
    if given.threshold > len(given.custodians):
        builder.refuse(
            (*_PLACE, "threshold"),
            f"{given.threshold} shares are asked for, and {len(given.custodians)} are handed out",
            "Name more custodians, or ask for fewer shares.",
        )
    every = parse_cadence(given.drill)
    if every is None:
        builder.refuse(
            (*_PLACE, "drill"), "shares that are never tried prove nothing", "Say how often, such as yearly."
        )
        return None
    return Escrow(tuple(given.custodians), given.threshold, every)
