"""A wheel carries the configuration: trained from another folder, without the repository."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_an_installed_wheel_trains_from_any_folder(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        names = set(archive.namelist())
    shipped = {f"astrom3/{p.relative_to(ROOT)}" for p in (ROOT / "conf").rglob("*.yaml")}
    data_files = [p for p in (ROOT / "astrom3").rglob("*.*") if p.suffix in (".js", ".css", ".html", ".json")]
    shipped |= {str(p.relative_to(ROOT)) for p in data_files}
    assert shipped <= names and not any(n.startswith(("tests/", "experiments/", "conf/")) for n in names)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "ASTROM3_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-P", "-m", "astrom3.train", "mode=meta", "size=tiny", "data=simulated",
               "data.objects=200", "trainer=cpu"]  # fmt: skip
    where = "import astrom3; print(astrom3.__file__)"
    found = subprocess.run([sys.executable, "-P", "-c", where], env=environment, capture_output=True, text=True)
    assert str(tmp_path / "site") in found.stdout
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "meta-full-scratch-42" / "metrics.json").is_file()
