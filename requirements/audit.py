"""Known weaknesses of the packages of the lock: python requirements/audit.py (make audit).

pip-audit asks the advisory database of pypi.org; it is fetched from the index where it is not installed. The exit
status is 0 only where every package of the lock was looked up and none has an advisory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

LOCK = Path(__file__).resolve().parent / "linux-x86_64-py311.txt"
UNREACHED = "the advisory database of pypi.org cannot be reached, so nothing was audited"


def main() -> int:
    lock = Path(sys.argv[1]) if len(sys.argv) > 1 else LOCK
    if find_spec("pip_audit") is None:
        fetch = [sys.executable, "-m", "pip", "install", "--quiet", "--retries", "0", "pip-audit"]
        if subprocess.run(fetch, capture_output=True).returncode:
            sys.exit(f"audit: {UNREACHED}: pip-audit is not installed and the index does not give it.")
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "-r", str(lock), "--format", "json"]
    done = subprocess.run([*command, "--progress-spinner", "off"], capture_output=True, text=True)
    sentence, status = verdict(done.stdout, done.stderr)
    print(f"audit: {sentence}", file=sys.stderr if status else sys.stdout)
    return status


def verdict(output: str, errors: str) -> tuple[str, int]:
    """What the JSON and the messages of pip-audit say, in words, and the exit status."""
    try:
        packages = json.loads(output)["dependencies"]
    except ValueError:
        lines = errors.strip().splitlines()
        if "requests.exceptions." in errors or "ConnectionError" in errors:
            return f"{UNREACHED}: run it where there is a network.", 2
        return f"pip-audit failed: {lines[-1] if lines else 'it said nothing'}", 2
    # An index that answers for pypi.org without its advisories says of every release that it is not found.
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        return f"{UNREACHED}: what answers for it knows none of the {len(packages)} packages.", 2
    found = []
    for package in packages:
        for advisory in package.get("vulns", []):
            fixed = ", ".join(advisory["fix_versions"]) or "no release"
            found.append(f"{package['name']} {package['version']}: {advisory['id']}, fixed in {fixed}")
    if skipped:
        found.append(f"not looked up, since pypi.org does not know them: {', '.join(skipped)}")
    if found:
        return "\n  ".join([f"{len(packages)} packages, of which these need a look:", *found]), 1
    return f"no advisory is known for the {len(packages)} packages of the lock.", 0


if __name__ == "__main__":
    sys.exit(main())
