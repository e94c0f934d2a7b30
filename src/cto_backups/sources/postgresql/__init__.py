"""PostgreSQL servers: dumps, files and the log of the server, restored and compared. ``source`` is where it begins."""
