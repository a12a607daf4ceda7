"""Classes and functions that a stored configuration names: only registered ones are ever constructed."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from astrom3 import registry
from astrom3.errors import UserError
from astrom3.files import write_text

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
