"""Names of the files of a configuration on the hub, and what is missing or strange among them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from astrom3.errors import UserError
from astrom3.modalities.schema import (
    SPLITS,
)

SPLIT_NAMES = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}


def config_folders(sub: str, seed: int) -> Iterator[tuple[str, str]]:
    """(configuration, folder) in the order tried, as hub repositories name them: {config} and data/{config}, where
    config is {sub}_{seed} and then {sub}_{seed}_norm."""
    for config in (f"{sub}_{seed}", f"{sub}_{seed}_norm"):
        yield config, config
        yield config, f"data/{config}"


def by_split(names: Iterable[str], folder: str) -> dict[str, list[str]]:
    """Parquet files of a configuration's folder by split, of their names relative to it.

    UserError for a file beside them that is of no split: its name is misspelt, and its objects would be lost.
    """
    files: dict[str, list[str]] = {}
    strange: list[str] = []
    for name in sorted(names):
        path = PurePosixPath(name)
        # train-00000-of-00002.parquet, train.parquet, or train/0000.parquet
        split = path.parent.name if len(path.parts) == 2 else re.split(r"[-_.]", path.name)[0]
        if len(path.parts) > 2 or path.suffix != ".parquet":
            continue
        if split in SPLIT_NAMES:
            files.setdefault(SPLIT_NAMES[split], []).append(name)
        else:
            strange.append(name)

    check_names(files, strange, folder)
    for parts in files.values():
        check_parts(parts, folder)
    return {split: files[split] for split in SPLITS if split in files}


def check_names(files: Mapping[str, Sequence[str]], strange: Sequence[str], folder: str) -> None:
    """UserError where some files are of splits and another is of none."""
    if files and strange:
        raise UserError(
            f"{folder} has {strange[0]}, which is of none of the splits {', '.join(SPLITS)}: rename it or move it away."
        )


def config_files(root: Path, sub: str, seed: int) -> tuple[str, dict[str, list[Path]]]:
    """Name of the configuration found under `root` and its parquet files by split; no files where there is none.

    `root` itself may be the folder of the configuration.
    """
    for config, folder in config_folders(sub, seed):
        places = [root / folder]
        if config == folder and config in (root.name, root.resolve().name):
            places.append(root)
        for place in places:
            found = [*place.glob("*.parquet"), *place.glob("*/*.parquet")]
            names = by_split([path.relative_to(place).as_posix() for path in found], str(place))
            if names:
                return config, {split: [place / name for name in parts] for split, parts in names.items()}
    return "", {}


def check_parts(names: Sequence[str], folder: str) -> None:
    """All parts of `name-00000-of-00003.parquet` must be there: a split is not shortened silently."""
    there = set()
    announced = 0
    for name in names:
        part = re.fullmatch(r".*-(\d+)-of-(\d+)\.parquet", name)
        if part is not None:
            there.add(int(part[1]))
            announced = max(announced, int(part[2]))
    if len(there) < announced:
        first = next(number for number in range(announced) if number not in there)
        raise UserError(
            f"{folder} lacks {announced - len(there)} of the {announced} parts of a split (the first is {first}); "
            "download it again."
        )
