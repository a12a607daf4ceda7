"""The site: it builds without a warning, its commands compose, its links and the README's lead somewhere."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from astrom3.cli.config import compose

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "pages").rglob("*.md"))
GUIDES = [ROOT / "README.md", *sorted((ROOT / "experiments").rglob("README.md"))]
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#]+)")


def commands(path):
    """The lines of the shell snippets of a page, without their comments."""
    blocks = re.findall(r"```bash\n(.*?)```", path.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


COMMANDS = [(path.name, line) for path in PAGES for line in commands(path)]


@pytest.mark.parametrize("page, line", COMMANDS, ids=[f"{page}-{i}" for i, (page, _) in enumerate(COMMANDS)])
def test_every_command_exists_and_its_configuration_composes(page, line):
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    assert words[:2] == ["python", "-m"], line
    package, verb = words[2].rsplit(".", 1)
    assert importlib.util.find_spec(words[2]) is not None, line
    if package == "astrom3" and (ROOT / "conf" / f"{verb}.yaml").is_file():
        given = [word.split(",")[0] if "[" not in word else word for word in words[3:] if word != "-m"]
        given = [word if "=" in word else f"root={word}" for word in given]  # report takes a bare folder
        compose(given, verb)


@pytest.mark.parametrize("path", [*PAGES, *(p for p in GUIDES if p.is_file())], ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_to_files(path):
    for target in LINK.findall(path.read_text()):
        if target in ("configuration.md", "own-survey/README.md", "../own-survey/README.md"):
            continue  # made while the site is built
        assert (path.parent / target).exists(), f"{path.name}: {target}"


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_reads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / "docs" / "mkdocs.yml")]
    done = subprocess.run([*command, "-d", str(tmp_path / "site")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    configuration = (tmp_path / "site" / "configuration.html").read_text()
    assert "optim.lr" in configuration and "early_stopping.patience" in configuration
    api = (tmp_path / "site" / "api.html").read_text()
    assert "Embeddings of raw observations" in api
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?|png))"', page.read_text())
        assert not loaded, f"{page.name}: {loaded}"
