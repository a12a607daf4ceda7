"""Command lines of the experiments that cannot be: one sentence and status 2, and nothing is written."""

from __future__ import annotations

import logging
import os
import runpy
import sys
from pathlib import Path

import pytest
from hostile_paths import lay_out, listing

from astrom3.errors import UserError
from experiments import options
from experiments.options import Whole

# The experiments, and the least that each is given. What they are refused for here comes before any work.
GIVEN = {
    "asas_v": ["real=nope", "work=w"], "astroclip": ["root=r", "out=o", "objects=0"],
    "astromer": ["real=nope", "weights=nope", "root=r", "out=o"], "bands": ["real=nope", "work=w"],
    "bench": ["only=a", "out=o", "small", "full"], "confidence": ["real=nope", "work=w"],
    "converter": ["real=nope", "work=w", "out=o"], "demo": ["root=r", "data.objects=0"],
    "early": ["real=nope", "work=w", "out=o"], "families": ["work=file"],
    "grid": ["root=r", "data=simulated", "data.objects=0"],
    "hats": ["folder=f", "out=o.md", "sizes=0"], "head_merge": ["data.objects=0"], "kills": ["out=o", "only=nothing"],
    "leaderboard": ["real=nope", "work=w", "out=o"], "missing": ["work=w", "out=pipe"],
    "own_survey": ["real=nope", "work=w"], "own_survey_recipe": ["real=nope", "work=w"],
    "rrlyrae": ["real=nope", "work=w", "out=o"], "search_engines": ["0"], "simulated_survey": ["init=nope"],
}  # fmt: skip
OF_HYDRA = ("demo", "head_merge", "search_engines")  # arguments that go on as they are, to Hydra or as sizes
# Of each of some experiments: an argument, and a part of the sentence.
WRONG = [
    ("asas_v", "workers=0", "workers=0"), ("asas_v", "workers=abc", "no whole number"), ("asas_v", "work=", "is empty"),
    ("astroclip", "nokey", "is not of the form key=value"), ("astroclip", "size=huge", "it is one of tiny"),
    ("astroclip", "tasks=properties,nope", "tasks=nope does not exist"), ("astroclip", "nokey=1", "no key nokey"),
    ("astroclip", "tasks=posterior,posterior", "twice"), ("astroclip", "out=file", "is a file"),
    ("astroclip", "seed=-1", "seed=-1"), ("astroclip", "out=file/x", "a part of the path is a file"),
    ("astromer", "folds=1.5", "no whole number"), ("astromer", "steps=-1", "steps=-1"),
    ("astromer", "real=", "missing"),
    ("astromer", "survey=nope", "it is one of crts-sss"), ("astromer", "root=loop/x", "lead in a circle"),
    ("bands", "methods=all,x", "methods=x does not exist"), ("bands", "methods=g,g", "twice"),
    ("bands", "real=", "real="),
    ("bands", "epochs=nan", "no whole number"), ("bench", "huge", "huge is not known"), ("bench", "x=1", "no key x"),
    ("bench", "only", "only is not known"),
    ("confidence", "epochs=0", "epochs=0"), ("confidence", "epoch=3", "did you mean epochs?"),
    ("confidence", "work=a\0b", "holds a NUL"), ("converter", "curves=1e3", "no whole number"),
    ("converter", "out=/proc/x", "cannot be made there"), ("demo", "epochs=-1", "epochs=-1"), ("demo", "x", "x"),
    ("demo", "nokey=1", "no key nokey"), ("early", "seeds=4", "from 1 to 3"), ("early", "seeds=-1", "from 1 to 3"),
    ("families", "size=huge", "it is one of tiny"), ("families", "seed=4294967296", "seed="),
    ("families", "objects=99999999999999999999999", "no whole number"), ("grid", "nokey=1", "no key nokey"),
    ("grid", "huge", "is not of the form key=value"), ("grid", "seed=", "seed"),
    ("grid", "=1", "is not of the form key=value"), ("hats", "sizes=a", "no whole number"),
    ("hats", "points=0", "points=0"),
    ("hats", "out=folder", "is a folder"), ("head_merge", "nokey=1", "no key nokey"), ("head_merge", "x", "x"),
    ("kills", "n=0", "n=0"), ("kills", "n=abc", "no whole number"), ("kills", "seed=-1", "seed=-1"),
    ("leaderboard", "rows=some", "it is one of cheap, all"), ("leaderboard", "seeds=9", "from 1 to 3"),
    ("leaderboard", "real=", "real= is missing"), ("leaderboard", "out=dangling/x", "of that name already"),
    ("missing", "encoder=nope", "it is one of folded"), ("missing", "out=pipe", "is a file"),
    ("own_survey", "objects=0", "objects=0"), ("own_survey", "objects=abc", "no whole number"),
    ("own_survey", "files=file", "is a file"), ("own_survey_recipe", "work=file/x", "a part of the path is a file"),
    ("rrlyrae", "objects=-1", "objects=-1"), ("rrlyrae", "seeds=0", "from 1 to 3"),
    ("simulated_survey", "nokey=1", "no key nokey"), ("simulated_survey", "init", "is not of the form"),
]  # fmt: skip


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """The sentence with which an experiment ends. Nothing has changed then."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASTROM3_CACHE", str(tmp_path / "cache"))
    for name in ("HYDRA_FULL_ERROR", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    lay_out(tmp_path)
    before = listing(tmp_path)
    handlers = list(logging.getLogger().handlers)

    def run(name: str, arguments: list[str]) -> str:
        monkeypatch.setattr(sys, "argv", [f"experiments.{name}", *arguments])
        module = f"experiments.{name}"
        sys.modules.pop(module, None)  # of another test: runpy would warn of it
        with pytest.raises(SystemExit) as end:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        text = capsys.readouterr().err.strip().splitlines()[-1]
        assert end.value.code == 2, text
        assert text.startswith(f"{name}: ") or text.startswith(f"experiments.{name}: ")
        assert listing(tmp_path) == before
        return text

    yield run
    logging.getLogger().handlers[:] = handlers


@pytest.mark.parametrize("name", GIVEN)
def test_what_no_experiment_can_do(refused, name):
    assert refused(name, GIVEN[name])


@pytest.mark.parametrize("name", sorted({name for name, _, _ in WRONG}))
def test_keys_and_values_that_an_experiment_does_not_take(refused, name):
    for case, argument, words in WRONG:
        if case != name:
            continue
        key = argument.partition("=")[0]
        text = refused(name, [given for given in GIVEN[name] if given.partition("=")[0] != key] + [argument])
        assert words in text
    if name not in OF_HYDRA:
        assert "twice" in refused(name, [GIVEN[name][0], *GIVEN[name]])


def test_every_experiment_is_here():
    folder = Path(options.__file__).parent
    found = {path.stem for path in folder.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    found |= {path.parent.name for path in folder.glob("*/__main__.py")}
    assert found == set(GIVEN)


DEFAULTS = {"text": "a", "none": None, "count": Whole(3, 0, 9), "word": ("x", "y"), "out": Path("o")}


def test_options_have_the_kind_of_their_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert options.read_options([], DEFAULTS) == {
        "text": "a", "none": None, "count": 3, "word": "x", "out": Path("o"),
    }  # fmt: skip
    given = ["text=b=c", "none=n", "count=0", "word=y", "out=new/deep"]
    found = options.read_options(given, DEFAULTS)
    assert found == {"text": "b=c", "none": "n", "count": 0, "word": "y", "out": Path("new/deep")}
    assert list(tmp_path.iterdir()) == []
    file = {"table": Path("t.md")}
    assert options.read_options(["table=other"], file)["table"] == Path("other")
    for argument in ("table=/", "table=.", "table=/dev/null", "table=/proc/x/y"):
        with pytest.raises((UserError, OSError)):
            options.read_options([argument], file)
    for argument in ("text= ", "count=10", "count=-0.0", "count=٣", "count=", "word=", "out=", "Text=1", "text"):
        with pytest.raises(UserError):
            options.read_options([argument], DEFAULTS)


def test_a_fault_of_an_experiment_is_one_sentence_too(capsys):
    for error, status in ((OSError(28, "No space left", "x"), 2), (KeyError("x"), 1), (KeyboardInterrupt(), 130)):

        def fail(error=error):
            raise error

        with pytest.raises(SystemExit) as end:
            options.answered("name", fail)
        assert end.value.code == status
        assert len(capsys.readouterr().err.splitlines()) == 1
