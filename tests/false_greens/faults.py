"""All faults, in the order of the page."""

from false_greens import of_buckets, of_keys, of_sources, of_trust, of_vaults, table

FAULTS = tuple(table.FAULTS)
MODULES = (of_sources, of_buckets, of_vaults, of_keys, of_trust)
