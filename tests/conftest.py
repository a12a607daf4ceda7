"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_dir() -> Path:
    """Folder of real observations: $ASTROM3_REAL, else `shared/real` beside the repository; skips where absent."""
    path = Path(os.environ.get("ASTROM3_REAL", ROOT.parent / "shared" / "real"))
    if not path.is_dir():
        pytest.skip(f"no folder of real observations at {path} (set ASTROM3_REAL)")
    return path
