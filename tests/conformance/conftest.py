"""`pytest tests/conformance --vectors DIR` runs every vector in DIR (default: the copies in the project).

A folder belongs to one family of models, which its manifest tells; the tests of the other families then have nothing to
run. A test module names its family in FAMILY, and each of its classes says in `kind` which vectors it takes.
"""

import json
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DEFAULTS = {"astrom3": HERE / "vectors", "astromer": HERE / "astromer", "astroclip": HERE / "astroclip"}
ASTROCLIP_NAMES = ("specformer", "vit", "clip_loss", "astrodino", "dino_", "image_head")
ASTROMER_NAMES = (
    "baseline_",
    "encoder_v",
    "full_size_parameters",
    "head_",
    "losses",
    "mask",
    "pipeline_classify",
    "positional",
    "released_",
    "train_steps",
    "w_error",
    "windows",
)


def pytest_addoption(parser):
    parser.addoption("--vectors", default=None, help="folder of conformance vectors with its manifest.json")


def read_manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def family(manifest):
    """The family that most names of a manifest belong to."""
    if any(name.startswith(ASTROCLIP_NAMES) for name in manifest):
        return "astroclip"
    astromer = sum(name.startswith(ASTROMER_NAMES) for name in manifest)
    return "astromer" if 2 * astromer > len(manifest) else "astrom3"


def family_of(module):
    """The family whose vectors a test module takes."""
    return getattr(module, "FAMILY", "astrom3")


def vectors_of(module, config):
    """The folder of vectors for a test module and its manifest; without entries where it is another family's."""
    own = family_of(module)
    given = config.getoption("--vectors", default=None)
    folder = Path(given) if given else DEFAULTS[own]
    manifest = read_manifest(folder)
    return folder, manifest if family(manifest) == own else {}


def pytest_generate_tests(metafunc):
    if "vector" in metafunc.fixturenames:
        folder, manifest = vectors_of(metafunc.module, metafunc.config)
        kind = metafunc.cls.kind
        chosen = {name: entry for name, entry in manifest.items() if kind(name, entry)}
        vectors = [(folder / f"{name}.safetensors", entry) for name, entry in chosen.items()]
        metafunc.parametrize("vector", vectors, ids=list(chosen))
    if "checkpoint" in metafunc.fixturenames:
        folder, manifest = vectors_of(metafunc.module, metafunc.config)
        folders = sorted(path.parent for path in folder.glob("*/expected.safetensors")) if manifest else []
        metafunc.parametrize("checkpoint", folders, ids=[path.name for path in folders])


def pytest_collection_modifyitems(config, items):
    """A vector that no test claims is a failure, not a silence, where the whole folder is run."""
    mine = [item for item in items if "vector" in getattr(item, "fixturenames", ())]
    modules = {item.module for item in mine}
    classes = {item.cls for item in mine}
    everything = {path.stem for path in HERE.glob("test_*.py")} == {Path(module.__file__).stem for module in modules}
    if not everything or any(cls not in classes for module in modules for cls in claiming(module)):
        return  # -k or a node id selects some
    unclaimed = set()
    for module in modules:
        _, manifest = vectors_of(module, config)
        same = [cls for other in modules if family_of(other) == family_of(module) for cls in claiming(other)]
        takers = [cls for cls in same if cls.__name__ != "TestManifest"]  # which takes every vector
        unclaimed |= {name for name, entry in manifest.items() if not any(cls.kind(name, entry) for cls in takers)}
    if unclaimed:
        raise pytest.UsageError(f"no conformance test knows what to do with {', '.join(sorted(unclaimed))}")


def claiming(module):
    """The test classes of a module that take vectors."""
    return [value for value in vars(module).values() if isinstance(value, type) and hasattr(value, "kind")]
