"""Labels per class, folds and any seed, on data sets of every layout, without a file of their own."""

import json
import logging

import numpy as np
import pytest
from data_files import make_rows, write_current, write_first, write_ours
from raw_layout import write_raw

from astrom3.cli.config import compose, quote_groups
from astrom3.data.datamodule import AstroM3DataModule
from astrom3.data.layouts import open_source
from astrom3.data.origins import Local
from astrom3.data.splits import Protocol, fold_splits, id_keys, shot_members
from astrom3.data.writer import DatasetWriter
from astrom3.errors import UserError
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.schema import CLASSES, SPLITS, SUBS
from astrom3.training.init import FromRun

N = 120


@pytest.fixture(scope="module")
def rows():
    objects = make_rows(N)
    for i, row in enumerate(objects):
        row["label"] = "EW" if i % 4 == 0 else row["label"]
    return objects


@pytest.fixture(scope="module")
def gaps(rows):
    """The same with every thirteenth label unknown."""
    return [row | {"label": None if i % 13 == 1 else row["label"]} for i, row in enumerate(rows)]


@pytest.fixture(scope="module")
def folders(rows, tmp_path_factory):
    root = tmp_path_factory.mktemp("layouts")
    return {
        "astrom3": write_ours(root / "astrom3", rows),
        "processed-1": write_first(root / "first", rows),
        "processed-2": write_current(root / "current", rows),
    }


def written(root, gaps, seeds, subs=SUBS):
    with DatasetWriter(root, classes=CLASSES, name="test", provenance={}) as writer:
        writer.write(gaps)
        return writer.finish(seeds, subs)


def ids_of(source):
    return {split: source.catalogue(split).ids.tolist() for split in source.rows}


def labels_of(source, split):
    labels = source.catalogue(split).labels
    return np.bincount(labels[labels >= 0], minlength=len(source.classes))


@pytest.mark.parametrize("name", ["full", "sub10", "shot20", "full-fold1of3", "shot100-fold2of5", "mine"])
def test_a_name_is_read_and_written_alike(name):
    assert Protocol.parse(name).name == name


def test_shots_are_nested_drawn_by_seed_and_do_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 500)
    ids = np.array([f"star {i}" for i in range(500)])
    few = shot_members(labels, ids, 20, seed=3)
    more = shot_members(labels, ids, 50, seed=3)
    assert np.bincount(labels[few]).tolist() == [20] * 4
    assert set(few) < set(more)
    assert set(few) != set(shot_members(labels, ids, 20, seed=4))
    order = rng.permutation(500)
    assert set(ids[order][shot_members(labels[order], ids[order], 20, seed=3)]) == set(ids[few])


def test_hashes_of_ids_stay_what_they_are():
    """Splits of later versions depend on them."""
    assert id_keys(["star 0", "star 1"]).tolist() == [15661478162989836131, 12939586673505472610]


def test_folds_test_every_object_once_and_share_out_the_classes():
    labels = np.repeat([0, 1, 2, -1], [301, 50, 7, 40])
    ids = [f"star {i}" for i in range(len(labels))]
    folds = [fold_splits(labels, ids, k, 3, seed=1) for k in (1, 2, 3)]
    assert (sum((names == "test").astype(int) for names in folds) == 1).all()
    for names in folds:
        for label, size in ((0, 301), (1, 50), (2, 7), (-1, 40)):
            of_class = names[labels == label]
            assert abs((of_class == "test").sum() - size / 3) < 1
            rest = (of_class != "test").sum()
            assert (of_class == "validation").sum() == rest // 5
    assert (folds[0] != fold_splits(labels, ids, 1, 3, seed=2)).any()


@pytest.mark.parametrize("layout", ["astrom3", "processed-1", "processed-2"])
def test_shots_leave_the_test_split_as_it_is(layout, folders):
    full = open_source(folders[layout], "full", 42)
    few = open_source(folders[layout], "shot4", 42)
    assert ids_of(few)["test"] == ids_of(full)["test"]
    assert labels_of(few, "train").tolist() == np.minimum(labels_of(full, "train"), 4).tolist()
    assert labels_of(few, "validation").max() == 1
    for split in ("train", "validation"):
        assert set(ids_of(few)[split]) <= set(ids_of(full)[split])


@pytest.mark.parametrize("layout", ["astrom3", "processed-1", "processed-2"])
def test_folds_hold_the_same_objects_as_the_full_split(layout, folders, rows, tmp_path):
    everything = sorted(i for ids in ids_of(open_source(folders[layout], "full", 42)).values() for i in ids)
    tested = []
    for fold in (1, 2, 3):
        source = open_source(folders[layout], f"full-fold{fold}of3", 42)
        ids = ids_of(source)
        assert sorted(i for split in SPLITS for i in ids[split]) == everything
        tested += ids["test"]
    assert sorted(tested) == everything


def test_a_fold_of_several_tables_gives_the_batches_of_its_objects(folders, tmp_path):
    """Every layout names its objects in another way, so the spectra themselves are compared."""
    found = {}
    for layout in ("processed-1", "processed-2"):
        data = AstroM3DataModule(
            Local(folders[layout]),
            "full-fold2of3",
            42,
            ["spectra"],
            batch_size=512,
            cache=tmp_path,
            labelled_only=False,
        )
        data.prepare_data()
        data.setup()
        spectra = [next(iter(data.split_dataloader(s)))["spectra"] for s in SPLITS]
        sizes = [len(data.splits[s]) for s in SPLITS]
        assert [len(x) for x in spectra] == sizes
        assert sum(sizes) == N
        sums = np.concatenate([x[:, 0].double().sum(1).numpy() for x in spectra])
        found[layout] = np.sort(sums)
    np.testing.assert_allclose(found["processed-1"], found["processed-2"], atol=1e-2)


def test_folds_of_the_raw_layout(tmp_path, rows):
    root = write_raw(tmp_path / "raw", rows)
    full = ids_of(open_source(root, "full", 42))
    ids = ids_of(open_source(root, "full-fold1of2", 42))
    assert sorted(i for s in ids for i in ids[s]) == sorted(i for s in full for i in full[s])
    assert len(ids["test"]) == N // 2


def test_statistics_are_those_of_the_protocols_own_training_objects(folders):
    source = open_source(folders["astrom3"], "shot4-fold1of3", 42)
    fitted = Normaliser.fit(source.catalogue("train").values)
    np.testing.assert_array_equal(source.normaliser.mean, fitted.mean)


@pytest.mark.parametrize("sub", SUBS)
def test_a_seed_without_a_file_is_drawn_as_convert_would_write_it(sub, gaps, tmp_path, caplog):
    with_files = open_source(written(tmp_path / "seven", gaps, [7]), sub, 7)
    root = written(tmp_path / "others", gaps, [42])
    with caplog.at_level(logging.INFO):
        drawn = open_source(root, sub, 7)
    assert ids_of(drawn) == ids_of(with_files)
    np.testing.assert_allclose(drawn.normaliser.mean, with_files.normaliser.mean, rtol=1e-12)
    assert "has no file splits/full_7.parquet: the split is drawn from the seed" in caplog.text


def test_a_subset_is_drawn_within_the_full_split_that_a_file_gives(folders):
    full = ids_of(open_source(folders["astrom3"], "full", 42))
    subset = ids_of(open_source(folders["astrom3"], "sub25", 42))
    assert all(set(subset[s]) < set(full[s]) for s in SPLITS)


@pytest.mark.parametrize(
    ("sub", "message"),
    [
        ("full-fold4of3", "fold=4 does not exist: the 3 folds are numbered 1 to 3"),
        ("shot99", "shots=99 is more than any class of .* has in its training split .the largest, EW, has"),
        ("mine-fold1of3", "sub=mine cannot be made of folds"),
        ("full-fold1of121", "has 120 objects, too few for fold=1 of 121 folds"),
        ("mine", "has no split mine_42; it has: full_42"),
    ],
)
def test_impossible_protocols_are_one_sentence(sub, message, folders):
    with pytest.raises(UserError, match=message):
        open_source(folders["astrom3"], sub, 42)


def test_data_without_labels_have_folds_but_no_shots(tmp_path, rows):
    root = written(tmp_path / "bare", [row | {"label": None} for row in rows], [42])
    assert len(open_source(root, "full-fold1of3", 42).catalogue("test").ids) == N // 3
    for sub in ("shot4", "shot4-fold1of3"):
        with pytest.raises(UserError, match="no labelled training objects"):
            open_source(root, sub, 42)


def test_rare_classes_are_named(folders, caplog):
    with caplog.at_level(logging.WARNING):
        open_source(folders["astrom3"], "shot8-fold1of20", 42)
    assert "fewer objects than folds=20" in caplog.text
    assert "classes with fewer than 8 training labels keep all they have: DSCT" in caplog.text


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "run", "protocol", "seed"),
    [
        (["sub=shot20"], "runs/photo-shot20-scratch-42", "shot20", 42),
        (["shots=50", "seed=7"], "runs/photo-shot50-scratch-7", "shot50", 7),
        (["shots=100", "fold=2"], "runs/photo-shot100-fold2of3-scratch-42", "shot100-fold2of3", 42),
        (["fold=4", "folds=5", "seed=0"], "runs/photo-full-fold4of5-scratch-0", "full-fold4of5", 0),
        (["sub=sub50-fold1of3"], "runs/photo-sub50-fold1of3-scratch-42", "sub50-fold1of3", 42),
    ],
)
def test_protocols_are_chosen_on_the_command_line(overrides, run, protocol, seed):
    cfg = compose(["mode=photo", *overrides])
    assert (cfg.run, cfg.datamodule.sub, cfg.datamodule.seed) == (run, protocol, seed)
    assert quote_groups(quote_groups(overrides)) == quote_groups(overrides)


def test_a_sweep_goes_over_any_seeds_and_folds():
    assert quote_groups(["seed=7,8", "fold=1,2", "shots=20,30"]) == [
        "seed=number", "number.seed=7,8", "fold=number", "number.fold=1,2", "sub=number", "number.sub=shot20,shot30",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["fold=4"], "fold=4 does not exist: the 3 folds are numbered 1 to 3"),
        (["seed=-1"], "seed=-1 must be at least 0"),
        (["shots=0"], "shots=0 leaves no labels"),
        (["shots=few"], "shots=few is not a number of labels per class"),
        (["folds=4"], "folds is the number of folds, of which fold=<number> chooses one"),
        (["seed=number"], "seed=number needs its number"),
    ],
)
def test_mistakes_are_one_sentence(overrides, message):
    with pytest.raises(UserError, match=message):
        compose(overrides)


def test_a_fold_starts_from_the_pre_training_of_the_same_fold(tmp_path):
    cfg = compose(["mode=photo", "init=clip", "shots=20", "fold=2"])
    assert cfg.init.path == "runs/clip-full-fold2of3-scratch-42"
    run = tmp_path / "clip"
    (run / "model").mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"seed": 42, "protocol": "full-fold1of3"}))
    FromRun(str(run), 42, protocol="full-fold1of3").check()
    with pytest.raises(UserError, match="was trained with fold1of3, this run has fold2of3"):
        FromRun(str(run), 42, protocol="full-fold2of3").check()
