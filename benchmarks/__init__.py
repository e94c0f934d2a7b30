"""Benchmarks: every claim of speed is a figure from here, side by side with the peer in one run."""
