"""Disposable places to restore into."""
