"""Run folders and their checkpoints, damaged in many ways: each is read, or refused with one sentence."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hostile_files import damaged, faults, instead, texts, with_bytes, with_text
from omegaconf import OmegaConf

from astrom3.cli.config import compose
from astrom3.errors import UserError
from astrom3.evaluate import evaluate
from astrom3.files import read_json

pytestmark = pytest.mark.slow

Call = Callable[[], Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def run(place, survey_of_30) -> Path:
    """A finished run of one epoch."""
    from astrom3.train import train

    given = ["mode=meta", "size=tiny", "data=local", f"data.path={survey_of_30}", "trainer=cpu", "epochs=1"]
    train(compose([*given, f"root={place / 'runs'}", f"data.cache={place / 'cache'}", "data.batch_size=8"]))
    return place / "runs" / "meta-full-scratch-42"


def test_run_folders(run):
    from astrom3.report.table import Grid, collect, summarise
    from astrom3.training.run import read_run, read_scores

    grid = Grid(("meta",), ("full",), ("scratch",), (42,))

    def read() -> None:
        summarise(collect(run.parent), grid)
        read_run(run)
        read_scores(run)

    read()
    cases: dict[str, Call] = {}
    config = run / "config.yaml"
    content = OmegaConf.to_container(OmegaConf.load(config))
    for name, text in texts(content, every=37, write=yaml.safe_dump):
        cases[f"config.yaml {name}"] = with_text(config, text, read)
    for path in (run / "run.json", run / "metrics.json"):
        cases |= {f"{path.name} {name}": with_text(path, text, read) for name, text in texts(read_json(path), every=11)}
    for name in ("config.yaml", "run.json", "metrics.json", "metrics.csv"):
        cases |= instead(run / name, read)
        cases |= {f"{name} {kind}": with_bytes(run / name, b, read) for kind, b in damaged((run / name).read_bytes())}
    assert len(cases) > 90
    assert faults(cases) == []


@pytest.fixture
def edited(run):
    """Writes another value into the configuration of the run, which is whole again afterwards."""
    config = run / "config.yaml"
    before = config.read_text()

    def edit(key: str, value: Any) -> Path:
        cfg = OmegaConf.create(before)
        OmegaConf.update(cfg, key, value)
        config.write_text(OmegaConf.to_yaml(cfg))
        return run

    yield edit
    config.write_text(before)


@pytest.mark.parametrize(("key", "value"), [
    ("datamodule.seed", "os.system"), ("model._partial_", []), ("views", "x"), ("datamodule.eval_batch_size", 1e300),
])  # fmt: skip
def test_a_run_whose_configuration_was_edited_is_not_evaluated(edited, key, value):
    with pytest.raises(UserError, match=r"config\.yaml holds a value that cannot be used .*: put back"):
        evaluate(compose([f"run={edited(key, value)}"], "evaluate"))


def test_a_run_of_several_nodes_is_evaluated_on_one(edited):
    run = edited("trainer.num_nodes", 2)  # which would wait for the other node
    scores = evaluate(compose([f"run={run}"], "evaluate"))
    assert scores["accuracy"] == read_json(run / "metrics.json")["accuracy"]


def test_checkpoints_of_a_run(run):
    from astrom3.training.checkpoints import AtomicCheckpointIO, load_weights, newest_sound

    best = run / "checkpoints" / "best.ckpt"
    last = run / "checkpoints" / "last.ckpt"
    content = torch.load(best, weights_only=True)
    state = content["state_dict"]
    name = next(key for key, tensor in state.items() if tensor.is_floating_point())
    values = [
        [], {}, {"state_dict": []}, {"state_dict": {name: "x"}}, {"state_dict": {name: None}},
        {"state_dict": {**state, name: state[name] * float("nan")}}, {"state_dict": {5: state[name]}},
        {"state_dict": {**state, name: state[name].to(torch.complex64)}}, torch.zeros(3), "x", None,
    ]  # fmt: skip
    contents = dict(damaged(best.read_bytes())) | {"of code": pickled()}
    for number, value in enumerate(values):
        file = io.BytesIO()
        torch.save(value, file)
        contents[f"content {number}"] = file.getvalue()
    cases = {f"best {kind}": with_bytes(best, b, lambda: load_weights(best)) for kind, b in contents.items()}
    resume = lambda: AtomicCheckpointIO().load_checkpoint(last)  # noqa: E731
    cases |= {f"last {kind}": with_bytes(last, b, resume) for kind, b in contents.items()}
    assert faults(cases, refused=True) == []
    assert not MARKER.exists()
    for kind, b in damaged(last.read_bytes()):
        with_bytes(last, b, lambda: newest_sound(run))(), kind


MARKER = Path("/tmp/astrom3-hostile-marker")


class Touch:
    """Unpickled, it would make a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (MARKER,)


def pickled() -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": Touch()}, file)
    return file.getvalue()
