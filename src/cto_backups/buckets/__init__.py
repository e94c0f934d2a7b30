"""How buckets are set, at each provider: read for sources and for vaults alike, and set for vaults."""
