"""Git repositories, mirrored. ``source`` is where it begins."""
