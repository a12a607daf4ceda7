"""Fixtures shared by all tests."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: tests side by side have a thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: what tests start must hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_dir() -> Path:
    """Folder of real observations: $ASTROM3_REAL, else `shared/real` beside the repository; skips where absent."""
    path = Path(os.environ.get("ASTROM3_REAL", ROOT.parent / "shared" / "real"))
    if not path.is_dir():
        pytest.skip(f"no folder of real observations at {path} (set ASTROM3_REAL)")
    return path


@pytest.fixture(scope="session")
def star_cache(tmp_path_factory):
    """Folder of simulated surveys of stars and their stores, shared by tests of any file and by xdist's workers."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "stars"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def in_star_cache(star_cache):
    """What a module writes to the user's cache goes to that folder; `pytest.mark.usefixtures` asks for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASTROM3_CACHE", str(star_cache))
        yield


@pytest.fixture(scope="session")
def galaxy_cache(tmp_path_factory):
    """Folder of one simulated galaxy survey of 24 and its stores, shared by the tests of AstroCLIP."""
    return tmp_path_factory.mktemp("galaxies")


@pytest.fixture(scope="module")
def survey_of_30(tmp_path_factory) -> Path:
    """A data set of 30 objects in our layout, for files that damage what was made of it."""
    from data_files import make_rows, write_ours

    return write_ours(tmp_path_factory.mktemp("survey of 30") / "survey", make_rows(30))


def pytest_collection_modifyitems(items):
    """Files with many slow tests come first, so that no worker is left with one at the end. Tests marked gpu are
    skipped, with the reason, where there is no CUDA device."""
    slow = Counter(item.path for item in items if "slow" in item.keywords)
    items.sort(key=lambda item: -slow[item.path])
    marked = [item for item in items if "gpu" in item.keywords]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
