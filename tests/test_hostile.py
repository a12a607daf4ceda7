"""Bad input of many kinds, in one process: each is answered with status 2 and one sentence, and nothing is touched."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from astrom3 import bounds, registry
from astrom3.cli import config
from astrom3.cli.verbs import run_verb
from astrom3.cli.wall import answer
from astrom3.errors import UserError
from astrom3.files import MARK, OutputFolder, inside, read_json, remove_leftovers, replacing, write_text
from astrom3.modalities.catalogue_quality import possible
from astrom3.modalities.quality import check_light_curves

TRAIN = ["mode=photo", "size=tiny", "data=simulated"]
NUMBERS = {
    "optim.lr": ["0", "-1", "nan", "inf", "1e9"],
    "optim.beta1": ["1", "-0.1", "2", "nan"],
    "optim.beta2": ["1", "-0.1", "nan", "inf"],
    "optim.weight_decay": ["-1", "nan", "inf", "1e9"],
    "schedule.factor": ["0", "-0.5", "1.5", "nan"],
    "schedule.warmup_epochs": ["-1", "10000000"],
    "schedule.patience": ["-1", "10000000000"],
    "early_stopping.patience": ["-1", "0"],
    "data.batch_size": ["0", "-1", "10000000000"],
    "data.eval_batch_size": ["0", "-4", "10000000000"],
    "data.shuffle_buffer": ["0", "-1"],
    "data.num_workers": ["-1", "100000"],
    "data.objects": ["0", "-5", "10000000000"],
    "data.missing_spectra": ["-0.1", "1.1", "nan"],
    "data.missing_light_curves": ["-0.1", "2.0", "nan"],
    "data.swapped_labels": ["-0.1", "1.5", "inf"],
    "epochs": ["0", "-1", "100000000"],
    "hidden_dim": ["0", "-1", "10000000"],
    "trainer.num_nodes": ["0", "-1"],
    "trainer.log_every_n_steps": ["0", "-1"],
    "trainer.gradient_clip_val": ["-1", "nan", "inf"],
    "trainer.precision": ["bf8", "31", "foo"],
    "min_modalities": ["0", "-1", "99"],
    "encoders.photometry.e_layers": ["0", "-1", "10000000"],
    "encoders.photometry.d_model": ["0", "-8", "100000000"],
    "encoders.photometry.n_heads": ["0", "-1", "1000000"],
    "encoders.photometry.d_ff": ["0", "-1", "10000000000"],
    "encoders.photometry.dropout": ["1", "-0.1", "nan", "2"],
}
NUMBERS |= {
    "trainer.devices": ["0", "-2"], "optim.layer_decay": ["0", "2"], "schedule.floor": ["-0.1", "2"],
    "schedule.warmup_steps": ["0"], "encoders.photometry.layers": ["0", "-1", "100000"],
    "encoders.photometry.window": ["0", "-1", "10000000"], "encoders.photometry.temperature": ["-1", "nan"],
    "encoders.photometry.version": ["0", "3"], "encoders.photometry.width": ["0", "-1", "10000000"],
    "encoders.photometry.phases": ["0", "-3", "10000000"], "encoders.photometry.quantiles": ["0", "10000000"],
    "encoders.photometry.thinning": ["1", "-0.5", "nan"], "encoders.spectra.embed_dim": ["0", "-1", "10000000"],
    "encoders.spectra.num_layers": ["0", "-1", "10000000"], "encoders.spectra.num_heads": ["0", "-1", "10000000"],
    "encoders.spectra.max_len": ["0", "-1", "10000000"], "encoders.spectra.slice_section_length": ["0", "10000000"],
    "encoders.spectra.slice_overlap": ["-1", "10000000"], "encoders.images.img_size": ["0", "-1", "10000000"],
    "encoders.images.patch_size": ["0", "-1", "10000000"], "encoders.images.depth": ["0", "-1", "10000000"],
    "encoders.images.mlp_ratio": ["0", "-1", "nan", "10000"], "encoders.images.drop_path": ["1", "-0.1", "nan"],
    "encoders.images.layer_scale": ["-1", "nan", "1e9"], "model.n_head": ["0", "-1"], "model.scale": ["0", "-1", "nan"],
    "module.masked_weight": ["-1", "nan", "1e300"], "module.chunks": ["0", "-1"], "module.width": ["0", "-1"],
    "views.images.global_size": ["0", "-1", "10000000"], "views.images.local_size": ["0", "-1", "10000000"],
    "views.images.local_crops": ["-1", "10000000"], "heads.images.out_dim": ["0", "-1", "100000000"],
    "heads.images.nlayers": ["0", "-1", "10000000"], "heads.images.bottleneck_dim": ["0", "-1"],
    "module.drop_path": ["1", "-1"], "module.momentum": ["-1", "2", "nan"], "module.koleo": ["-1", "nan"],
    "module.teacher_temperature": ["0", "-1", "nan"], "module.frozen_epochs": ["-1"], "data.truncation": ["-1", "2"],
    "module.teacher_warmup_epochs": ["-1"], "module.weight_decay_end": ["-1", "nan"], "folds": ["0", "1", "10000000"],
    "model.start_scale": ["0", "-1", "nan"], "simulated.buffer": ["0", "-1"], "seed": ["-1", "4294967296"],
}  # fmt: skip
TABLE = [(key, value) for key, values in NUMBERS.items() for value in values]
OF_VERBS = [
    ("embed", ["model=m", "part=0"]), ("embed", ["model=m", "part=-1"]), ("embed", ["model=m", "batch=0"]),
    ("embed", ["model=m", "processes=-1"]), ("embed", ["model=m", "processes=0"]), ("embed", ["model=m", "workers=0"]),
    ("embed", ["model=m", "device=foo"]), ("embed", ["model=m", "device=cuda:x"]), ("embed", ["model=m", "shards=-1"]),
    ("explore", ["model=m", "neighbours=100000"]), ("explore", ["model=m", "neighbours=0"]),
    ("explore", ["model=m", "points=0"]), ("explore", ["model=m", "limit=-1"]), ("explore", ["model=m", "device=gpu0"]),
    ("search", ["index=i", "id=a", "top=0"]), ("search", ["index=i", "id=a", "sample=-1"]),
    ("search", ["index=i", "light_curve=a", "zero_point=nan"]), ("search", ["index=i", "id=a", "zero_point=-1"]),
    ("simulate", ["out=o", "objects=0"]), ("simulate", ["out=o", "objects=-1"]), ("simulate", ["out=o", "workers=-1"]),
    ("simulate", ["out=o", "missing_spectra=2"]), ("simulate", ["out=o", "swapped_labels=-1"]),
    ("convert", ["out=o", "table=t", "workers=0"]), ("convert", ["out=o", "table=t", "split_fractions=[2,-1,0]"]),
    ("convert", ["out=o", "table=t", "light_curves.time_offset=inf"]), ("analyse", ["model=m", "device=tpu"]),
    ("tune", [*TRAIN, "tune.trials=0"]), ("tune", [*TRAIN, "tune.failures=-1"]),
]  # fmt: skip
FOREIGN = [
    "os.system", "posix.system", "subprocess.run", "subprocess.Popen", "builtins.eval", "builtins.exec",
    "builtins.open",
    "numpy.distutils.exec_command.exec_command", "torch.hub.load", "torch.load", "numpy.load", "pandas.read_pickle",
    "joblib.load", "pathlib.Path", "pathlib.Path.write_text", "shutil.rmtree", "hydra.utils.get_method",
    "hydra.utils.instantiate", "hydra.utils.get_object", "importlib.import_module", "pickle.loads", "runpy.run_path",
    "astrom3.registry.os.system", "astrom3.files.os.system", "astrom3.files.shutil.rmtree", "astrom3.files.os.remove",
    "astrom3.training.checkpoints.torch.load", "astrom3.launch.subprocess.run", "astrom3.launch.Job",
    "astrom3.files.OutputFolder", "astrom3.files.write_text", "astrom3.inference.trained.TrainedModel",
    "astrom3.inference.trained.WithStatistics", "astrom3.encoders.towers.torch.load", "astrom3.train.train",
    "astrom3.data.writer.DatasetWriter", "torch.optim.Adam.__init__", "torch.optim.os", "torch.optim.lr_scheduler",
    "lightning.pytorch.callbacks.LambdaCallback", "lightning.Trainer.fit", "lightning.pytorch.cli.LightningCLI",
    "lightning.pytorch.plugins.io.TorchCheckpointIO", "webbrowser.open", "ctypes.CDLL", "code.interact", "system",
    "", "..", "astrom3", "astrom3.", "astrom3..os", "os.system;x", "astrom3.encoders", "astrom3.does.not.Exist",
]  # fmt: skip
PLACES = [
    lambda t: {"_target_": t},
    lambda t: {"trainer": {"callbacks": [{"_target_": t}]}},
    lambda t: {"model": {"_args_": [{"_target_": t}]}},
    lambda t: {"a": {"_target_": "lightning.Trainer", "_partial_": True, "plugins": {"x": [[{"_target_": t}]]}}},
]


def said(capsys, verb: str, arguments: list[str]) -> str:
    """The one sentence that a verb ends with."""
    with pytest.raises(SystemExit) as end:
        run_verb(verb, lambda cfg: pytest.fail("the verb was called"), arguments)
    text = capsys.readouterr().err.strip()
    assert end.value.code == 2, text
    assert text.startswith(f"astrom3 {verb}: ") and "Traceback" not in text
    assert len(text.splitlines()) == 1, text
    return text


@pytest.mark.parametrize(("key", "value"), TABLE)
def test_a_number_out_of_range_is_refused_with_its_key(key, value):
    number = value if key == "trainer.precision" else float(value) if key != "trainer.devices" else int(value)
    with pytest.raises(UserError, match=re.escape(key)):
        bounds.check_numbers([(key, [number] if key.startswith("module.momentum") else number)])


# One of every family; numbers out of the middle of their lists go the whole way through the command line.
OF_THE_COMMAND_LINE = [
    ([], "optim.lr=nan"), ([], "encoders.photometry.d_model=-8"), ([], "data.batch_size=10000000000"), ([], "epochs=0"),
    (["model=astromer2"], "encoders.photometry.window=0"), (["model=curves"], "encoders.photometry.width=-1"),
    (["recipe=survey"], "encoders.photometry.phases=0"), (["fold=1"], "folds=1"), ([], "trainer.devices=0"),
    ([], "trainer.precision=bf8"), ([], "min_modalities=0"), ([], "seed=-1"), ([], "data.missing_spectra=nan"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "override"), OF_THE_COMMAND_LINE)
def test_the_command_line_says_so_in_one_sentence(capsys, given, override):
    assert override.partition("=")[0] in said(capsys, "train", [*TRAIN, *given, override])


@pytest.mark.parametrize("override", ["encoders.images.depth=-1", "model.scale=nan", "encoders.spectra.num_heads=0"])
def test_the_command_line_of_galaxies_too(capsys, override):
    given = ["model=astroclip", "mode=clip", "data=simulated"]
    assert override.partition("=")[0] in said(capsys, "train", [*given, override])


FAMILIES = [
    ["mode=clip"], ["mode=masked", "model=astromer2"], ["mode=photo", "model=astromer1", "schedule=noam"],
    ["mode=photo", "model=curves"], ["mode=clip", "model=curves"], ["mode=photo", "recipe=survey"],
    ["mode=photo", "recipe=bands"], ["mode=clip", "model=astroclip"], ["mode=distil", "model=astroclip"],
    ["mode=masked", "model=astroclip"], ["mode=spectra", "model=astroclip", "target=redshift", "fold=1", "folds=3"],
]  # fmt: skip
FREE = ("light_curves.time_offset",)  # numbers that any value does for


@pytest.mark.parametrize("given", FAMILIES)
def test_every_number_of_every_family_has_a_range(given):
    cfg = OmegaConf.to_container(config.compose([*given, "data=simulated", "size=tiny"]))
    for key, value in config.leaves_of(cfg):
        if isinstance(value, float | int) and not isinstance(value, bool):
            for absurd in (-2.0, 1e300):
                with pytest.raises(UserError):
                    bounds.check_numbers([(key, absurd if key != "trainer.devices" else -2)])


@pytest.mark.parametrize("given", FAMILIES)
def test_a_network_is_sized_before_it_is_made(given, monkeypatch):
    from astrom3.training import memory

    cfg = config.compose([*given, "data=simulated"])
    sizes = []

    def make():
        made = registry.instantiate(cfg.model)
        for module in memory.modules_of(made):
            sizes.append(sum(p.numel() for p in module.parameters()))
            assert all(p.device.type == "meta" for p in module.parameters())
        return made

    before = torch.random.get_rng_state()
    memory.check_fits(make)
    assert torch.equal(before, torch.random.get_rng_state())
    assert sum(sizes) > 1000
    monkeypatch.setattr(memory, "memory", lambda: 10_000)
    with pytest.raises(UserError, match="weights, and training it takes"):
        memory.check_fits(make)


@pytest.mark.parametrize(("verb", "given"), [
    ("embed", ["model=m"]), ("analyse", ["model=m"]), ("explore", ["model=m"]), ("search", ["index=i", "id=a"]),
    ("export", ["model=m"]), ("evaluate", ["run=r"]), ("report", []), ("simulate", ["out=o"]),
    ("simulate", ["out=o", "survey=galaxies"]), ("convert", ["out=o", "table=t"]),
])  # fmt: skip
def test_every_number_of_every_verb_has_a_range(verb, given):
    cfg = OmegaConf.to_container(config.compose(given, verb))
    for key, value in config.leaves_of(cfg):
        if isinstance(value, float | int) and not isinstance(value, bool) and key not in FREE:
            with pytest.raises(UserError):
                bounds.check_numbers([(key, -2)])


@pytest.mark.parametrize(("verb", "arguments"), OF_VERBS)
def test_numbers_of_the_other_verbs_are_checked_too(capsys, verb, arguments):
    assert arguments[-1].partition("=")[0] in said(capsys, verb, arguments)


def test_contrastive_batches_of_one_object_are_refused(capsys):
    for key in ("data.batch_size", "data.eval_batch_size"):
        assert "at least 2" in said(capsys, "train", ["mode=clip", "data=simulated", f"{key}=1"])


@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize("place", PLACES)
def test_nothing_foreign_is_constructed(target, place):
    with pytest.raises(UserError, match="does not construct"):
        registry.check(place(target))


def test_what_our_configurations_construct_is_in_the_registry_and_exists():
    for target in registry.shipped():
        assert registry.may_construct(target)
        assert callable(registry.located(target)), target
    for target in registry.MOVED.values():
        assert callable(registry.located(target)), target


def test_ours_optimisers_and_what_is_allowed_by_name_may_be_constructed():
    registry.check({"_target_": "torch.optim.AdamW"})
    registry.check({"_target_": "astrom3.encoders.mlp.MetadataMLP"})
    registry.check({"_target_": "collections.OrderedDict"}, allow="collections.OrderedDict")
    registry.check({"_target_": "collections.OrderedDict"}, allow=["a.B", "collections.OrderedDict"])
    with pytest.raises(UserError, match="not the name of a class"):
        registry.check({}, allow="rm -rf")


@pytest.mark.parametrize("text", [
    "- 1\n", "a: [", "a: &x 1\nb: *x\n", "a: ${oc.env:HOME}\n", "a: !!python/object/apply:os.system [x]\n",
    "${oc.env:HOME}: 1\n", "a: b: c", "\x00", "module: {_target_: os.system}\n", "", "? [a]\n: 1\n",
])  # fmt: skip
def test_a_stored_configuration_of_another_kind_is_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    if text == "":
        assert registry.read_stored(tmp_path / "config.yaml") == OmegaConf.create({})
        return
    with pytest.raises(UserError, match=r"config\.yaml"):
        registry.read_stored(tmp_path / "config.yaml")


def test_evaluate_runs_nothing_of_a_run_folder(tmp_path):
    from astrom3.training.run import read_run

    marker = tmp_path / "marker"
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    write_text(run / "run.json", "{}")
    write_text(
        run / "config.yaml", f"datamodule: {{_target_: pathlib.Path.touch, self: {marker}}}\nallow: pathlib.Path\n"
    )
    torch.save({"state_dict": {}}, run / "checkpoints" / "best.ckpt")
    with pytest.raises(UserError, match=r"pathlib\.Path\.touch"):
        read_run(run)
    assert not marker.exists()


# --- folders --------------------------------------------------------------------------------------------------------


def test_a_foreign_folder_is_refused_and_named_and_overwrite_removes_nothing_of_it(tmp_path):
    (tmp_path / "objects.parquet").write_text("mine")
    folder = OutputFolder(tmp_path, "embed")
    with pytest.raises(UserError, match=r"objects\.parquet.*overwrite=true"):
        folder.open(["train.parquet"])
    folder.open(["train.parquet"], overwrite=True)
    (tmp_path / "train.parquet").write_text("ours")
    folder.remove()
    assert (tmp_path / "objects.parquet").read_text() == "mine"
    assert not (tmp_path / "train.parquet").exists()


def test_files_of_others_in_an_own_folder_stay_and_are_not_replaced(tmp_path):
    folder = OutputFolder(tmp_path / "new", "export")
    folder.open(["a", "onnx/b"])
    (tmp_path / "new" / "onnx").mkdir()
    for name in ("a", "onnx/b", "onnx/mine", "c"):
        (tmp_path / "new" / name).write_text(name)
    with pytest.raises(UserError, match=r"did not write \(c\)"):
        folder.open(["a", "c"])
    folder.remove()
    assert sorted(p.name for p in (tmp_path / "new").rglob("*")) == [MARK, "c", "mine", "onnx"]


def test_the_folder_of_another_verb_is_foreign(tmp_path):
    OutputFolder(tmp_path, "report").open(["report.md"])
    (tmp_path / "report.md").write_text("text")
    with pytest.raises(UserError, match=r"report\.md"):
        OutputFolder(tmp_path, "analyse").open(["report.md"])


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "link/x"])
def test_a_manifest_cannot_name_what_is_outside(tmp_path, name):
    (tmp_path / "x").write_text("outside")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    assert inside(folder, name) is None
    write_text(folder / MARK, json.dumps({"made_by": "embed", "version": 1, "files": [name]}))
    OutputFolder(folder, "embed").remove()
    assert (tmp_path / "x").read_text() == "outside"


def test_files_are_whole_and_carry_the_mode_of_the_umask(tmp_path):
    write_text(tmp_path / "file", "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    before = os.umask(0o022)
    write_text(tmp_path / "file", "new")
    os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_leftovers_of_killed_writers_go_and_what_they_moved_away_comes_back(tmp_path):
    import platform

    host = re.sub(r"\W", "", platform.node()) or "host"
    dead = 2**22 + 1  # beyond the largest process id of Linux
    for name in (
        f".set.{host}-{dead}-0123abcd.old",
        f".set.{host}-{dead}-0123abcd.tmp",
        f".set.{host}-{os.getpid()}-0123abcd.tmp",
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    remove_leftovers(tmp_path / "set")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".set.{host}-{os.getpid()}-0123abcd.tmp", "set"]
    assert (tmp_path / "set" / "file").read_text().endswith(".old")


def test_an_overwritten_data_set_keeps_what_is_not_of_it(tmp_path):
    from astrom3.simulate.survey import simulate

    simulate(tmp_path / "set", n_objects=40, seed=0)
    (tmp_path / "set" / "notes.txt").write_text("mine")
    (tmp_path / "set" / "objects" / "mine.bin").write_text("mine")
    simulate(tmp_path / "set", n_objects=50, seed=0, overwrite=True)
    assert (tmp_path / "set" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "set" / "objects" / "mine.bin").read_text() == "mine"
    assert read_json(tmp_path / "set" / "dataset.json")["n_objects"] == 50
    shutil.rmtree(tmp_path / "set" / "splits")
    write_text(tmp_path / "set" / "dataset.json", '{"layout": "of somebody else"}')


# --- what the system says, numbers ----------------------------------------------------------------------------------


def failing(path: str) -> BaseException:
    try:
        Path(path).write_text("x")
    except OSError as error:
        return error
    raise AssertionError(path)


@pytest.mark.parametrize("path", ["/proc/x", "/dev/null/x", "/tmp", "/tmp/" + 300 * "x"])
def test_what_the_system_refuses_is_one_sentence(path):
    sentence, status = answer(failing(path))
    assert status == 2 and len(sentence.splitlines()) == 1 and "Errno" not in sentence


def test_a_fault_of_ours_is_one_sentence_with_its_place():
    try:
        config.leaves_of(None).__next__()
    except AttributeError as error:
        sentence, status = answer(error)
    assert status == 1 and "config.py, line" in sentence


def curve(time: np.ndarray, flux: np.ndarray, error: np.ndarray) -> tuple[bool, str]:
    found = check_light_curves(np.array([0, len(time)]), time, flux, error)
    return bool(found.accepted[0]), " ".join(d.reason for d in found.decisions(["a"]))


def test_mixed_dates_and_absurd_fluxes_are_refused():
    time = np.arange(100.0) + 57000
    flux = 10 + np.sin(time)
    error = np.full(100, 0.1)
    assert curve(time, flux, error) == (True, "")
    mixed = np.where(np.arange(100) < 50, time, time + 2400000.5)
    assert curve(mixed, flux, error)[0] is False and "JD and MJD" in curve(mixed, flux, error)[1]
    assert curve(time, flux * 1e299, error)[0] is False


def test_200000_points_at_one_time_are_ordered_in_a_moment():
    import time as clock

    rng = np.random.default_rng(0)
    time = np.append(np.full(200_000, 5.0), 6.0)
    flux = rng.normal(10, 1, len(time))
    error = np.full(len(time), 0.1)
    curve(time[:50], flux[:50], error[:50])  # compiled
    start = clock.monotonic()
    found = check_light_curves(np.array([0, len(time)]), time, flux, error)
    assert clock.monotonic() - start < 5
    np.testing.assert_array_equal(found.columns[1][:-1], np.sort(flux[:-1]))


def test_values_that_stand_for_unknown_become_unknown():
    values = np.array([[1.0, -9999.0, 1e39, 1e300, -999.0, 12.5, np.inf]])
    np.testing.assert_array_equal(np.isnan(possible(values)), [[False, True, True, True, True, False, True]])


def test_an_object_in_two_splits_and_a_misspelt_split_are_refused():
    from astrom3.data.layouts.ours import check_splits

    path = Path("full_42.parquet")
    check_splits(path, ["a", "b"], np.array(["train", "test"], dtype=object))
    with pytest.raises(UserError, match="'a' is in train and test"):
        check_splits(path, ["a", "a"], np.array(["train", "test"], dtype=object))
    with pytest.raises(UserError, match="'a' is twice in test"):
        check_splits(path, ["a", "a"], np.array(["test", "test"], dtype=object))
    with pytest.raises(UserError, match="1 objects into 'trian'"):
        check_splits(path, ["a", "b"], np.array(["trian", "test"], dtype=object))
