"""The code computes what it computed when the facts in `facts/frozen.json` were recorded, see frozen.py.

Version 0.1 also left a run folder and a data set in `facts/`, which must stay readable.
"""

import json
import shutil

import frozen
import numpy as np
import pytest

FACTS = json.loads(frozen.FROZEN.read_text())
RUNS = frozen.published_runs()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The kept survey in each layout."""
    return frozen.write_layouts(tmp_path_factory.mktemp("layouts"))


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """A folder for the prepared data of each layout."""
    root = tmp_path_factory.mktemp("caches")
    return {layout: root / layout for layout in frozen.LAYOUTS}


def test_there_are_facts_of_all_33_published_runs():
    assert len(RUNS) == 33
    assert set(FACTS["configurations"]["runs"]) == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_composed_configuration(name):
    """Later keys may be added. A recorded key keeps its value."""
    recorded = FACTS["configurations"]["common"] | FACTS["configurations"]["runs"][name]
    composed = frozen.configuration(RUNS[name])
    assert {key: composed.get(key, "no such key") for key in recorded} == recorded


@pytest.mark.slow
@pytest.mark.parametrize("layout", frozen.LAYOUTS)
def test_first_batches_and_prepared_stores(layout, folders, caches):
    differing = []
    for mode in frozen.MODES:
        found = frozen.batches(mode, folders[layout], caches[layout])
        for part, facts in FACTS["batches"][layout][mode].items():
            differing += [f"{mode}, {part}: {name}" for name in differences(facts, found[part])]
    stores = frozen.stores(caches[layout])
    for name, facts in FACTS["stores"][layout].items():
        assert len(facts) == len(stores[name])
        for fact, found in zip(facts, stores[name], strict=True):
            differing += [f"store: {key}" for key in differences({name: fact}, {name: found})]
    assert differing == []


def differences(facts, found):
    """Names of the recorded arrays that are not as recorded."""
    return [name for name, fact in facts.items() if name not in found or not frozen.agrees(fact, found[name])]


@pytest.mark.parametrize("mode", frozen.MODES)
def test_losses_of_three_steps(mode, caches):
    recorded = FACTS["losses"][mode]
    found = frozen.losses(mode, frozen.SURVEY, caches["astrom3"])
    assert len(recorded["train"]) == 3
    assert found["train"] == pytest.approx(recorded["train"], rel=1e-5)
    assert found["validation"] == pytest.approx(recorded["validation"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", frozen.RUN_MODES)
def test_files_of_a_run_folder(mode, tmp_path, caches):
    """Later files may be added."""
    missing = set(FACTS["run_files"][mode]) - set(frozen.run_files(mode, tmp_path, caches["astrom3"]))
    assert missing == set()


def test_a_run_of_version_0_1_is_loaded_and_classifies_as_then():
    np.testing.assert_allclose(frozen.class_probabilities(), FACTS["class_probabilities"], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_run_of_version_0_1_is_evaluated_with_the_same_scores(tmp_path):
    """Its configuration names the survey by a relative path, so both are copied side by side."""
    for folder in (frozen.RUN, frozen.SURVEY):
        shutil.copytree(folder, tmp_path / folder.name)
    run = tmp_path / frozen.RUN.name
    done = frozen.command("evaluate", f"run={run.name}", cwd=tmp_path, cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert "differ from the scores" not in done.stderr + done.stdout
    metrics = json.loads((run / "metrics.json").read_text())
    again = json.loads((run / "evaluation.json").read_text())
    assert {key: again.get(key) for key in metrics} == metrics


def test_the_kept_folders_hold_no_path_of_the_machine_that_made_them():
    for folder in (frozen.RUN, frozen.SURVEY):
        for path in folder.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            assert not any(start in content for start in (b"/tmp/", b"/home/", b"/work/", b"/root/")), path


def test_a_changed_number_is_noticed():
    array = np.linspace(1, 2, 600, dtype=np.float32).reshape(3, 200)
    for name in ("values", "metadata"):
        fact = frozen.fingerprint(name, array)
        assert frozen.agrees(fact, frozen.fingerprint(name, array.copy()))
        assert not frozen.agrees(fact, frozen.fingerprint(name, array[::-1]))
        changed = array.copy()
        changed[1, 7] *= 1.01
        assert not frozen.agrees(fact, frozen.fingerprint(name, changed))
