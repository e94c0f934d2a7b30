"""Buckets of object stores: every object as it is now, by its generation, and back into a folder or a bucket."""
