"""What the house promises of its modules: who names a modality or a column of AstroM3."""

from __future__ import annotations

import ast
from pathlib import Path

from astrom3.modalities.schema import ALL_COLS, MODALITIES

PACKAGE = Path(__file__).resolve().parents[1] / "astrom3"
FREE = ("modalities", "published")  # rooms that may name them
NAMES = frozenset((*MODALITIES, *ALL_COLS))

LAYOUT = "the layout of files on a disk or hub: which column holds which kind of observation"
ENCODER = "an encoder names its view and its inputs, which are the interface"
SIMULATION = "a simulation is a survey of its own: it makes these very columns, and nothing else reads it by name"
WORD = "a word of the command line, of a page or of a configuration that is spelt like a modality"
# File -> how many literals are left there, and why. The numbers may only shrink.
ALLOWED: dict[str, tuple[int, str]] = {
    "analyse/properties.py": (1, "a published table, by modality"),
    "cli/keys.py": (1, WORD),
    "convert/inputs.py": (3, WORD),
    "data/galaxy_writer.py": (1, LAYOUT),
    "data/layouts/arrow.py": (1, LAYOUT),
    "data/layouts/columns.py": (1, LAYOUT),
    "data/layouts/galaxy_hdf5.py": (5, LAYOUT),
    "data/layouts/galaxy_rows.py": (2, LAYOUT),
    "data/layouts/hats.py": (1, LAYOUT),
    "data/layouts/hub.py": (20, LAYOUT),
    "data/layouts/magnitudes.py": (6, LAYOUT),
    "data/layouts/ours.py": (6, LAYOUT),
    "data/layouts/pairs.py": (1, LAYOUT),
    "data/layouts/raw.py": (3, LAYOUT),
    "data/observed.py": (7, "gives raw light curves and spectra back out of every layout"),
    "data/readers/objects.py": (6, "galactic coordinates of a table that has right ascension and declination"),
    "data/readers/raw.py": (5, LAYOUT),
    "data/selection.py": (1, WORD),
    "encoders/folded.py": (1, ENCODER),
    "encoders/galspecnet.py": (2, ENCODER),
    "encoders/informer.py": (2, ENCODER),
    "encoders/mlp.py": (2, ENCODER),
    "explore/content.py": (1, WORD),
    "explore/writing.py": (1, WORD),
    "inference/objects.py": (1, WORD),
    "inference/observations.py": (1, WORD),
    "inference/raw.py": (1, WORD),
    "search/__main__.py": (1, WORD),
    "serve/batcher.py": (1, WORD),
    "serve/index.py": (4, "the example of a request"),
    "serve/request.py": (1, WORD),
    "simulate/catalogue.py": (33, SIMULATION),
    "simulate/macho.py": (2, SIMULATION),
    "simulate/populations.py": (2, SIMULATION),
    "simulate/survey.py": (1, SIMULATION),
    "training/init_astroclip.py": (3, "slots of published AstroCLIP files"),
}
MOST = 131  # of all together


def literals(path: Path) -> int:
    """String literals of a module that are the name of a modality or column of AstroM3; docstrings do not count."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = set()
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            texts.add(id(node.body[0].value))
    count = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            count += node.value in NAMES
    return count


def test_no_module_names_a_modality():
    """A new modality or survey needs no change outside the rooms that define them, but for what is listed above."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE)
        if name.parts[0] not in FREE and (count := literals(path)):
            found[name.as_posix()] = count
    expected = {name: count for name, (count, _) in ALLOWED.items()}
    assert found == expected, "take names from astrom3.modalities; where one is gone, lower its number in ALLOWED"
    assert sum(found.values()) <= MOST


def test_a_literal_is_counted_and_a_docstring_is_not(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(
        '"""photometry"""\n\n\ndef f():\n    """period"""\n    return {"photometry": "spectra", "x": 1}\n'
    )
    assert literals(module) == 2
