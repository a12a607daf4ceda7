"""Write the lock of the present environment: python requirements/lock.py (make lock).

Versions are those that are installed here, hashes those of every file of a release on the index. uv asks the index:
pip install uv, or UV=<path>. Left out are torch, whose builds differ from machine to machine, and what only another
build of it needs.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "linux-x86_64-py311.txt"
HERE = ((3, 11), "linux", "x86_64")
HEADER = """\
# The tested environment: Python 3.11 on Linux x86_64, every file with its hash. Torch comes from the index that the
# machine has. Made by requirements/lock.py (make lock).
"""


def main() -> int:
    if (sys.version_info[:2], sys.platform, platform.machine()) != HERE:
        sys.exit("lock: the lock is of Python 3.11 on Linux x86_64, run it there")
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        sys.exit("lock: uv is needed, which asks the index for the hashes: pip install uv, or UV=<path>")
    installed = {canonical(found.metadata["Name"]): found.version for found in distributions()}
    listed = blocks(compiled(uv, installed))
    kept = {name: block for name, block in listed.items() if name in installed and name != "torch"}
    other = [name for name, block in kept.items() if f"=={installed[name]}" not in block.replace(" ", "")]
    if other:
        sys.exit(f"lock: the index has no {other[0]}=={installed[other[0]]}, which is installed here")
    part = LOCK.with_name(f"{LOCK.name}.part")
    part.write_text(HEADER + "".join(kept[name] for name in sorted(kept)), encoding="utf-8")
    os.replace(part, LOCK)
    absent = sorted(set(listed) - set(kept) - {"torch"})
    print(f"{len(kept)} packages in {LOCK.relative_to(ROOT)}; left out, as not installed here: {', '.join(absent)}")
    return 0


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def compiled(uv: str, installed: dict[str, str]) -> str:
    """The resolution of pyproject.toml with every extra of `dev`, at the versions that are installed."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        public = {name: version for name, version in installed.items() if "+" not in version and name != "astrom3"}
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in public.items()))
        command = [uv, "pip", "compile", str(ROOT / "pyproject.toml"), "--extra", "dev", "--generate-hashes", "--quiet"]
        command += [
            "--constraint",
            str(constraints),
            "--python-version",
            platform.python_version(),
            "--no-header",
            "--no-annotate",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"lock: {done.stderr.strip()}")
    return done.stdout


def blocks(text: str) -> dict[str, str]:
    """Package -> its lines."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        start = re.match(r"([A-Za-z0-9._-]+)(\[[^]]*\])?\s*==", line)
        if start is not None:
            name = canonical(start[1])
            found[name] = ""
        if name and line.strip() and not line.startswith("#"):
            found[name] += line
    return found


if __name__ == "__main__":
    sys.exit(main())
