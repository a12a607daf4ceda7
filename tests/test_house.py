"""The walls of the house: which room may import from which, no circles, and no file too long to read."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "astrom3"
LONGEST = 350  # lines of a file
# From the cellar to the roof: a module imports from its own room and from the rooms before it.
ROOMS = [
    "errors draws places hub hardware bounds kernel extras locks strict_json files hdf5_files parquet_files typed "
    "stored registry workers progress umap_maps",
    "modalities",
    "plots encoders",
    "published",
    "data",
    "tasks",
    "inference",
    "training",
    "cli",
    "simulate convert",
    "train evaluate",
    "embed analyse search explore export tune report serve launch",
]
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms.split()}
MODULES = sorted(ROOT.rglob("*.py"))


def name_of(path):
    """Dotted name of a module."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path, top_only=False):
    """Dotted names of what a module imports from astrom3. top_only: not what a function imports when it is called."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    known = {name_of(module) for module in MODULES}
    return {name for name in found if name in known and name.startswith("astrom3")}


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(ROOT)) for path in MODULES])
def test_no_arrow_goes_up_and_no_file_is_too_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST
    if path.name == "__main__.py" or path == ROOT / "__init__.py":
        return  # what is run or imported from outside stands above the house
    room = name_of(path).split(".")[1]
    for name in imported(path) - {"astrom3"}:
        other = name.split(".")[1]
        assert other == room or FLOOR[other] <= FLOOR[room], f"{name_of(path)} imports {name}"


@pytest.mark.slow
def test_no_circle_of_imports():
    arrows = {name_of(path): imported(path, top_only=True) - {name_of(path)} for path in MODULES}
    done = set()

    def walk(name, trail):
        assert name not in trail, f"a circle: {' -> '.join([*trail, name])}"
        if name in done:
            return
        for other in arrows[name]:
            walk(other, [*trail, name])
        done.add(name)

    for name in arrows:
        walk(name, [])


@pytest.mark.parametrize("page", ["internals.md", "house.md"])
def test_the_files_that_a_page_of_the_documentation_names_are_there(page):
    """The walks of data through the house are lists of files."""
    text = (ROOT.parent / "docs" / "pages" / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:\w+/)+\w+\.py)", text)
    assert len(named) > 5
    assert not [name for name in named if not (ROOT / name).is_file() and not (ROOT.parent / name).is_file()]


READS_PARQUET = re.compile(r"\bpq\.(read_\w+|ParquetFile\()")


def test_parquet_files_are_opened_in_one_place():
    elsewhere = [path for path in MODULES if READS_PARQUET.search(path.read_text(encoding="utf-8"))]
    assert elsewhere == [ROOT / "parquet_files.py"]
