"""The rows that train a network: fine-tuned from our pre-training, and from scratch, by the commands of the suite."""

from __future__ import annotations

from typing import Any

from experiments.leaderboard.protocol import NARROW, Cell
from experiments.leaderboard.rows import pretrained
from experiments.leaderboard.shop import Shop
from experiments.leaderboard.surveys import SEEDS
from experiments.leaderboard.tasks import Task

KIND = "fine-tuning"
SHOTS = (20, 100, 500, 0)
ROWS = {
    "ours, fine-tuned": ["model=curves", "mode=all", "init=file"],
    "ours, from scratch": ["model=curves", "mode=all"],
    "recipe=survey, from scratch": ["mode=photo", "recipe=survey"],
    # The encoder of AstroM3 in the small size, at the rate and patience at which issue 14 found it stable on Catalina.
    "AstroM3's Informer, from scratch": ["mode=photo", "size=small", "optim.lr=0.001", "early_stopping.patience=25"],
}
FROM_OURS = {  # labels per class -> settings of the rows that start from our pre-training, chosen on validation objects
    20: ["epochs=60", "data.batch_size=32"],
    100: ["epochs=30", "data.batch_size=32"],
    500: ["epochs=15"],
    0: ["epochs=10"],
}
FROM_SCRATCH = {
    20: ["epochs=100", "data.batch_size=32"],
    100: ["epochs=60", "data.batch_size=64"],
    500: ["epochs=30"],
    0: ["epochs=20"],
}


def cells(row: str, task: Task) -> list[Cell]:
    """A cell for each size and seed; fewer sizes of a task between two surveys."""
    found = []
    for shots in SHOTS if task.train == task.test else NARROW:
        found += [Cell(row, task.name, KIND, shots, seed) for seed in SEEDS]
    return found


def starts_from_ours(cell: Cell) -> bool:
    """Whether the network of a cell starts from our pre-training."""
    return cell.kind == KIND and "init=file" in ROWS.get(cell.row, ())


def settings(cell: Cell) -> list[str]:
    """What the command of a cell has beside its folders and its seed."""
    sizes = FROM_OURS if starts_from_ours(cell) else FROM_SCRATCH
    return [*ROWS.get(cell.row, ()), *sizes.get(cell.shots, ())]


def plain(row: str) -> str:
    """The name of a row without signs that a path or a command line would mind."""
    return "".join(letter for letter in row.replace(" ", "-").replace("=", "-") if letter not in ",'")


def compute(cell: Cell, shop: Shop, task: Task) -> dict[str, Any]:
    """Train a network on the labels of a cell and give its test scores."""
    from astrom3.cli.config import compose
    from astrom3.train import train

    data = shop.task_data(task)
    root = shop.folder / "runs" / f"{plain(cell.row)}-{data.name}"
    overrides = [
        *settings(cell),
        "trainer=cpu",
        f"seed={cell.seed}",
        f"root={root}",
        "data=local",
        f"data.path={data}",
        f"data.cache={shop.store}",
    ]
    if starts_from_ours(cell):
        overrides.append(f"init.path={pretrained(shop)}")
    if cell.shots:
        overrides.append(f"shots={cell.shots}")
    tested = train(compose(overrides))
    return {"accuracy": tested["accuracy"], "macro_f1": tested["macro_f1"], "settings": {"command": ROWS[cell.row]}}
