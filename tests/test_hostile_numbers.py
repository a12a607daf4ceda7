"""Numbers that are out of range, in every key of every verb: refused with the key before anything is read."""

from __future__ import annotations

import re

import pytest
import torch
from hostile_verbs import said
from omegaconf import OmegaConf

from astrom3 import bounds, registry
from astrom3.cli import config
from astrom3.errors import UserError

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
LONG = 400 * "9"  # more than a float can hold
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
    ("convert", ["out=o", "table=t", "light_curves.wavelengths={V:-1}"]),
    ("convert", ["out=o", "table=t", "split_fractions=[1e-300,0.5,0.5]"]),
    ("tune", [*TRAIN, "tune.trials=0"]), ("tune", [*TRAIN, "tune.failures=-1"]),
    ("explore", ["model=m", f"neighbours={LONG}"]), ("explore", ["model=m", f"limit=-{LONG}"]),
    ("train", [*TRAIN, f"optim.lr={LONG}"]), ("train", [*TRAIN, f"epochs={LONG}"]), ("report", [f"seeds=[{LONG}]"]),
    ("train", [*TRAIN, f"trainer.devices={LONG}"]), ("train", [*TRAIN, f"trainer.limit_train_batches={LONG}"]),
]  # fmt: skip


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


@pytest.mark.slow
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
