"""Pages that are made or taken from elsewhere while the site is built.

The page of the configuration is made from conf/: every group, option, key and comment. The guide for a survey of one's
own is the one in experiments/own_survey, with its pictures.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
GUIDE = ROOT / "experiments" / "own_survey"
VERBS = [
    "train",
    "evaluate",
    "convert",
    "simulate",
    "embed",
    "analyse",
    "search",
    "explore",
    "serve",
    "export",
    "tune",
    "report",
]
GROUPS = [
    "mode",
    "family",
    "sub",
    "fold",
    "seed",
    "init",
    "data",
    "size",
    "trainer",
    "logger",
    "recipe",
    "optim",
    "schedule",
    "task",
    "kind",
    "survey",
    "space",
]
KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w./]+):(?P<value>[^#]*?)(?:\s+#\s*(?P<comment>.*))?$")
HEAD = """# Configuration

Every key can be overridden on the command line: `python -m astrom3.train optim.lr=0.001`. `--cfg job` prints the
composed configuration of a command without running it. A group is chosen by its name: `mode=clip`. This page is made
from the files in `conf/`.
"""


def on_files(files, config):
    """Add these pages to those that are built."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "configuration.md", content=page()))
    for path in sorted(GUIDE.rglob("*")):
        if path.suffix in (".md", ".png"):
            name = f"own-survey/{path.relative_to(GUIDE).as_posix()}"
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def page() -> str:
    """The whole page as markdown."""
    parts = [HEAD, "## Commands\n"]
    for verb in VERBS:
        parts.append(f"### python -m astrom3.{verb}\n")
        parts.append(section(CONF / f"{verb}.yaml"))
    parts.append("## Groups\n")
    for group in GROUPS:
        parts.append(f"### {group}\n")
        for path in sorted((CONF / group).rglob("*.yaml")):
            parts.append(f"#### {group}={path.stem}\n")
            parts.append(section(path))
    return "\n".join(parts)


def section(path: Path) -> str:
    """A file's leading comment as text, and its keys as a table."""
    lines = path.read_text().splitlines()
    comments = []
    for line in lines:
        if not line.startswith("#"):
            break
        if "@package" not in line:
            comments.append(line.lstrip("# ").rstrip())
    rows = keys(lines)
    table = ""
    if rows:
        table = "| key | default | meaning |\n|---|---|---|\n"
        table += "\n".join(f"| `{key}` | {shown(value)} | {escaped(comment)} |" for key, value, comment in rows)
    return "\n".join([escaped(" ".join(comments)), "", table, ""])


def keys(lines: list[str]) -> list[tuple[str, str, str]]:
    """(dotted key, value as written, comment) of every leaf of a YAML file; Hydra's own block is left out."""
    found = []
    above: list[tuple[int, str]] = []
    for line in lines:
        match = KEY.match(line)
        if match is None:
            continue
        indent = len(match["indent"])
        above = [entry for entry in above if entry[0] < indent]
        path = ".".join([name for _, name in above] + [match["key"]])
        above.append((indent, match["key"]))
        if path.startswith(("hydra", "defaults")):
            continue
        value = match["value"].strip()
        if value or match["comment"]:
            found.append((path, value, match["comment"] or ""))
    return found


def shown(value: str) -> str:
    """A value in code style, nothing for an empty one."""
    return f"`{value.replace('|', chr(92) + '|')}`" if value else ""


def escaped(text: str) -> str:
    """Text that holds neither table cells nor tags."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")
