"""What is protected: one module a kind, each of which captures, discovers, restores and probes its own data."""
