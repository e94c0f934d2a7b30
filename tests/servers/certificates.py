"""Certificates of tests, each of which is its own authority."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as files."""

    shown: Path
    key: Path

    def put(self, shown: Path, key: Path, owned_as: Path) -> None:
        """Have a server find it: files that belong to whoever owns something else of it."""
        for ours, theirs in ((self.shown, shown), (self.key, key)):
            shutil.copyfile(ours, theirs)
            os.chown(theirs, owned_as.stat().st_uid, owned_as.stat().st_gid)
            theirs.chmod(0o600)


def certificate(folder: Path, name: str, *, address: str = "") -> Certificate:
    """A new one of a host, and of its address."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    names = f",IP:{address}" if address else ""
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}{names}", "-days", "2", "-nodes"]
    asked = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", made.key, "-out", made.shown]
    subprocess.run(["openssl", "req", "-x509", *subject, *asked], check=True, capture_output=True)
    return made
