"""`pytest tests/conformance --vectors DIR` runs every vector in DIR (default: the copy in the project)."""

import json
from pathlib import Path

import pytest

DEFAULT = Path(__file__).parent / "vectors"


def pytest_addoption(parser):
    parser.addoption("--vectors", default=str(DEFAULT), help="folder of conformance vectors with its manifest.json")


def pytest_generate_tests(metafunc):
    if "vector" not in metafunc.fixturenames:
        return
    folder = Path(metafunc.config.getoption("--vectors", default=str(DEFAULT)))
    manifest = json.loads((folder / "manifest.json").read_text())
    kind = metafunc.cls.kind
    chosen = {name: entry for name, entry in manifest.items() if kind(name, entry)}
    metafunc.parametrize("vector", [(folder / f"{n}.safetensors", e) for n, e in chosen.items()], ids=list(chosen))


def pytest_collection_modifyitems(config, items):
    """A vector that no test claims is a failure, not a silence."""
    folder = Path(config.getoption("--vectors", default=str(DEFAULT)))
    manifest = json.loads((folder / "manifest.json").read_text())
    mine = [item for item in items if "vector" in getattr(item, "fixturenames", ())]
    claimed = {item.callspec.id for item in mine if item.cls.__name__ != "TestManifest"}  # which takes every vector
    whole_run = len({item.cls for item in mine}) == 6  # not when -k or a node id selects some
    if whole_run and (unclaimed := set(manifest) - claimed):
        raise pytest.UsageError(f"no conformance test knows what to do with {', '.join(sorted(unclaimed))}")
