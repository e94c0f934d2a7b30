"""The story, one file a verb: backup, copy, verify, restore, restore test, expire, audit, status, work.

A flow sees ports and the byte layers; `app` hands it the adapters, gathered in an `Installation`.
"""
