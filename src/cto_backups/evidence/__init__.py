"""Signed, hash-chained records: what was done and proven, checkable without this product."""
