"""MySQL and MariaDB servers: dumps, files and the binary log, restored and compared. ``source`` is where it begins."""
