"""The certificates that this system trusts."""

import ssl
from pathlib import Path


def of_the_system() -> str:
    """Them as a file, for libpq, whose tools before version 16 do not know the word 'system'."""
    usual = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    return usual if Path(usual).is_file() else "system"
