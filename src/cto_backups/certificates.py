"""The certificates that this system trusts."""

import ssl
from pathlib import Path


def file_of_the_system() -> str:
    """Where they usually are in a file, be it there or not: MySQL's tools know no other word for them."""
    return ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"


def of_the_system() -> str:
    """Them as a file, for libpq, whose tools before version 16 do not know the word 'system'."""
    usual = file_of_the_system()
    return usual if Path(usual).is_file() else "system"
