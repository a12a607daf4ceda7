"""Every shell and Python snippet of the README runs, in its order, in one folder, against a local stand-in of the hub.

Training commands get `size=tiny trainer=cpu epochs=1` behind them, so that they take seconds; `make` targets are
checked to exist (`make -n`); the demo is run for real in test_demo.py.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from data_files import make_rows, write_current
from hub_server import serve
from processes import run_command, run_module

ROOT = Path(__file__).resolve().parents[1]
SNIPPETS = re.findall(r"```(bash|python)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def environment(folder):
    """The hub's own layout for the configurations that the README names, on a local server."""
    repo = folder / "hub" / "AstroMLCore" / "AstroM3Processed"
    write_current(repo, make_rows(60))
    for name in ("sub10_42", "full_0", "full_66"):
        shutil.copytree(repo / "full_42", repo / name)
    with serve(folder / "hub") as server:
        yield os.environ | {
            "HF_ENDPOINT": server.url, "HF_HOME": str(folder / "hf"), "ASTROM3_CACHE": str(folder / "cache"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip


def commands(text):
    return [line.split("  #")[0].strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


TINY = "size=tiny trainer=cpu epochs=1"


def shrink(command):
    """The same command, seconds long: tiny networks and surveys, a corner of the grid, local jobs, not a cluster's."""
    command = command.replace("objects=400", "objects=60").replace("objects=300", "objects=100")
    if "experiments.grid" in command:
        words = [w for w in command.split() if not w.startswith(("hydra.launcher.partition", "hydra.launcher.gpus"))]
        command = " ".join("hydra/launcher=local" if w == "hydra/launcher=slurm" else w for w in words if w != "tiny")
        root = "" if "tiny" in words else f"root=runs/grid-{len(words)}-{'slurm' in command}"
        return f"{command} tiny seed=42 mode=meta sub=sub10 init=scratch {root}"
    if "astrom3.analyse" in command:
        return f"{command} what=[retrieval,outliers]"
    if "astrom3.explore" in command:
        return f"{command} map=pca"
    if "astrom3.export" in command:
        return f"{command} onnx=false"
    if "astrom3.tune" in command:
        return f"{command} {TINY} tune.trials=2"
    devices = "trainer.accelerator=cpu size=tiny epochs=1" if "trainer=ddp" in command else TINY
    return f"{command} {devices}" if "astrom3.train" in command else command


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(SNIPPETS)), ids=[f"{i}-{kind}" for i, (kind, _) in enumerate(SNIPPETS)])
def test_snippet(number, folder, environment):
    kind, text = SNIPPETS[number]
    if kind == "python":
        done = run_module("-c", text, cwd=folder, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        return
    for command in commands(text):
        if command.startswith("make "):
            assert subprocess.run(["make", "-n", *command.split()[1:]], cwd=ROOT, capture_output=True).returncode == 0
            continue
        done = run_command(shrink(command), folder, environment)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_readme_is_short_and_names_every_verb_and_group():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 160
    for group in ("mode", "sub", "seed", "init", "data", "size", "trainer", "logger"):
        options = {p.stem for p in (ROOT / "conf" / group).glob("*.yaml")} - {"base"}
        row = next(line for line in text.splitlines() if line.startswith(f"| `{group}`"))
        assert options == set(row.split("|")[2].split()), group
    for verb in (p.stem for p in (ROOT / "conf").glob("*.yaml")):
        assert f"{verb}.py" in text or f"{verb}/" in text


def test_every_file_of_the_tree_in_the_readme_exists():
    text = (ROOT / "README.md").read_text()
    files = [p for folder in ("astrom3", "experiments", "tests") for p in (ROOT / folder).rglob("*.py")]
    for name in re.findall(r"\b(\w+\.py)\b", text.split("## The tree")[1]):
        assert any(p.name == name for p in files), name
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert shown and all((ROOT / path).is_file() for path in shown)
