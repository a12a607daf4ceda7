"""The paper's grid in one command: python -m experiments.grid [tiny] [wait] [key=value ...]

5 CLIP pre-trainings, then 160 classifications (4 modes, 4 subsets, with and without CLIP, 5 seeds), then the table.
Finished runs are skipped, failed ones recorded, and the same command goes on where it was stopped.

python -m experiments.grid                                       one process, run after run
python -m experiments.grid tiny                                  minutes on a CPU: simulated data, tiny networks
python -m experiments.grid hydra/launcher=packed                 several runs side by side on one device
python -m experiments.grid hydra/launcher=local                  jobs with processes of their own, as on a cluster
python -m experiments.grid hydra/launcher=slurm hydra.launcher.partition=gpu        submits and returns; `wait` waits
python -m experiments.grid mode=spectra sub=sub10 seed=42,0      a part of it
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from astrom3 import launch
from astrom3.cli import config, sweeps
from astrom3.cli import verbs as cli
from astrom3.errors import UserError
from experiments.options import answered, read_pairs

AXES = {
    "mode": "photo,spectra,meta,all",
    "sub": "full,sub50,sub25,sub10",
    "init": "scratch,clip",
    "seed": "42,0,66,12,123",
}
TINY = ["size=tiny", "data=simulated", "data.objects=400", "trainer=cpu", "epochs=2", "root=runs/grid-tiny"]
Run = tuple[str, str, str, str]  # mode, sub, init, seed


def grid(arguments: list[str]) -> None:
    """Both stages and the report. Raises UserError at the end where a run failed."""
    arguments = [{"tiny=true": "tiny", "wait=true": "wait"}.get(a.removeprefix("--"), a) for a in arguments]
    words = {a.removeprefix("--") for a in arguments if "=" not in a}
    if unknown := words - {"tiny", "wait"}:
        raise UserError(f"{unknown.pop()!r} is not of the form key=value, nor `tiny` nor `wait`")
    given = read_pairs(TINY if "tiny" in words else [])
    given |= read_pairs([argument for argument in arguments if "=" in argument])
    axes = {name: given.pop(name, values).split(",") for name, values in AXES.items()}
    axes["mode"] = [mode for mode in axes["mode"] if mode != "clip"]  # the first stage
    rest = [f"{key}={value}" for key, value in given.items()]
    launcher = sweeps.launcher_of(rest)
    check(axes, rest)
    root = Path(given.get("root", "runs"))
    runs = all_runs(axes)
    if not runs:
        raise UserError("there is nothing to train: init=scratch needs no pre-training, and there is no other mode")
    before = [run for run in runs if finished(root, run)]
    say(f"{len(runs)} runs, {len(before)} of them finished already")
    if launcher in sweeps.CLUSTERS:
        failed = in_jobs(axes, rest, root, "wait" in words)
    else:
        failed = in_sweeps(axes, rest)
    if failed is None:  # submitted, not waited for
        return
    table(root)
    failed = {**failed, **recorded(root, runs)}
    done = sum(finished(root, run) for run in runs)
    say(f"{len(runs)} runs: {done - len(before)} finished now, {len(before)} skipped, {len(runs) - done} not finished")
    if failed:
        listed = "".join(f"\n  {run}: {reason}" for run, reason in failed.items())
        raise UserError(f"not finished:{listed}", lines=True)


def check(axes: dict[str, list[str]], rest: list[str]) -> None:
    """Every value of every axis and all the rest, before the first run."""
    for overrides in stages(axes):
        for choice in sweeps.sweep_choices(config.quote_groups([*overrides, *rest])):
            config.compose(choice)


def stages(axes: dict[str, list[str]]) -> list[list[str]]:
    """Overrides of the pre-trainings, where any run starts from one, and of the classifications."""
    first = [["mode=clip", "seed=" + ",".join(axes["seed"])]] if "clip" in axes["init"] else []
    return [*first, [f"{name}={','.join(values)}" for name, values in axes.items()]] if axes["mode"] else first


def all_runs(axes: dict[str, list[str]]) -> list[Run]:
    first: list[Run] = [("clip", "full", "scratch", seed) for seed in axes["seed"] if "clip" in axes["init"]]
    return [*first, *product(axes["mode"], axes["sub"], axes["init"], axes["seed"])]  # type: ignore[list-item]


def in_sweeps(axes: dict[str, list[str]], rest: list[str]) -> dict[str, str]:
    """Two sweeps of this process (or of the packed launcher's workers), in order; run -> reason of the failed ones."""
    from astrom3.train import train

    failed: dict[str, str] = {}
    for overrides in stages(axes):
        say(f"\n== python -m astrom3.train -m {' '.join([*overrides, *rest])}")
        try:
            cli.run("train", train, ["-m", *overrides, *rest])
        except cli.SweepError as error:
            failed |= error.failed
    return failed


def in_jobs(axes: dict[str, list[str]], rest: list[str], root: Path, wait: bool) -> dict[str, str] | None:
    """Jobs through submitit; None where they were handed to SLURM and nobody waits."""
    jobs, settings = plan(axes, rest, root)
    folder = root.absolute() / ".submitit"
    folder.mkdir(parents=True, exist_ok=True)
    if launch.on_slurm(settings):
        done = launch.submit(jobs, settings, folder)
        if not wait:
            say(f"{len(done)} jobs (squeue lists them), logs in {folder}; later: python -m astrom3.report {root}")
            return None
        launch.wait(done)
    else:
        at_once = max((os.cpu_count() or 1) // settings["tasks_per_node"], 1)
        done = launch.run_local(jobs, settings, folder, at_once)
    return {run: reason for job in done.values() for run, reason in launch.outcome(job).items()}


def plan(axes: dict[str, list[str]], rest: list[str], root: Path) -> tuple[list[launch.Job], dict[str, Any]]:
    """Jobs with unfinished runs, and the launcher's settings.

    One CLIP job a seed; for each mode and seed one job from scratch and one from CLIP, which waits for its seed's
    pre-training. With several devices a job is one run, all its processes in step.
    """
    overrides = [o for o in rest if not o.startswith("hydra")]
    choice = sweeps.sweep_choices(config.quote_groups([*stages(axes)[-1], *rest]))[0]
    sweeps.check_sweep([config.compose(choice)], sweeps.launcher_of(rest), runs=1)
    settings = launcher_settings(choice)
    alone = settings["tasks_per_node"] * settings["nodes"] > 1

    jobs = []
    for mode, sub, init, seed in all_runs({**axes, "mode": []}):
        if not finished(root, (mode, sub, init, seed)):
            jobs.append(launch.Job(f"clip-{seed}", ("mode=clip", f"seed={seed}", *overrides)))
    for mode, seed, init in product(axes["mode"], axes["seed"], axes["init"]):
        unfinished = [sub for sub in axes["sub"] if not finished(root, (mode, sub, init, seed))]
        after = (f"clip-{seed}",) if init == "clip" else ()
        common = (f"mode={mode}", f"init={init}", f"seed={seed}", *overrides)
        if alone:
            jobs += [launch.Job(f"{mode}-{sub}-{init}-{seed}", (f"sub={sub}", *common), after) for sub in unfinished]
        elif unfinished:
            jobs.append(launch.Job(f"{mode}-{init}-{seed}", ("-m", f"sub={','.join(unfinished)}", *common), after))
    return jobs, settings


def launcher_settings(overrides: list[str]) -> dict[str, Any]:
    """The keys of the chosen hydra/launcher."""
    launcher = config.compose_with_hydra(overrides).hydra.launcher
    return {
        key: OmegaConf.to_container(launcher[key]) if OmegaConf.is_config(launcher[key]) else launcher[key]
        for key in launcher
        if key != "submitit_folder"  # it asks for the sweep's folder, which Hydra fills in later
    }


def folder_of(root: Path, run: Run) -> Path:
    return root / "-".join(run)


def finished(root: Path, run: Run) -> bool:
    return (folder_of(root, run) / "metrics.json").is_file()


def recorded(root: Path, runs: list[Run]) -> dict[str, str]:
    """Run -> reason, from the folders of runs that failed."""
    files = {str(folder_of(root, run)): folder_of(root, run) / "failure.json" for run in runs}
    return {name: json.loads(file.read_text())["reason"] for name, file in files.items() if file.is_file()}


def say(text: str) -> None:
    print(text, flush=True)


def table(root: Path) -> None:
    """What there is, beside the paper."""
    from astrom3.report.__main__ import report

    report(config.compose([f"root={root}"], "report"))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stdout)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # local jobs are ended too
    answered("grid", lambda: grid(sys.argv[1:]))
