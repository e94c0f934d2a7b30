"""The wheel: one file that brings the whole program to a machine without Rust and without a compiler."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(users_home: Path) -> Path:
    """What `make wheel` builds, from what is built already where nothing has changed: cargo's own folder is there."""
    if not shutil.which("cargo") and not (ROOT / ".cache" / "rust").exists():
        pytest.skip("set up from a wheel: there is no Rust to build another one")
    environment = {**os.environ, "HOME": os.fspath(users_home)}
    done = subprocess.run(["make", "wheel"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ROOT / done.stdout.split()[-1]


def test_one_wheel_serves_every_python_and_has_the_inner_loops(wheel: Path) -> None:
    assert "-cp311-abi3-linux_" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert "cto_backups/_native.abi3.so" in names
    assert not [name for name in names if name.startswith(("tests/", "native/"))]


def test_without_rust_it_protects_and_proves(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    site = next((tmp_path / "venv" / "lib").glob("python*")) / "site-packages"
    zipfile.ZipFile(wheel).extractall(site)
    # The dependencies alone: what makes the checkout importable lies in another file there, which is not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    data = tmp_path / "data"
    data.mkdir()
    (data / "report.txt").write_text("figures\n" * 1000)

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [tmp_path / "venv" / "bin" / "python", "-P", *arguments],
            cwd=tmp_path,
            env={"PATH": os.defpath, "HOME": os.fspath(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    native = run("-c", "import cto_backups._native as native; print(native.__file__)").strip()
    assert native == os.fspath(site / "cto_backups" / "_native.abi3.so")
    told = run("-m", "cto_backups", "quickstart", os.fspath(data), "--home", os.fspath(tmp_path / "home"))
    assert "HEALTHY" in told
