"""All faults, in the order of the page."""

from false_greens import of_sources, of_trust, of_vaults, table

FAULTS = tuple(table.FAULTS)
MODULES = (of_sources, of_vaults, of_trust)
