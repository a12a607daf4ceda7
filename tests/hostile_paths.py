"""Odd names of files and folders, what may lie under them, and whether a verb that gets one leaves all as it was."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hostile_files import answer
from omegaconf import DictConfig, OmegaConf

LOCK = ".lock"
PLACEHOLDER = "placeholder-of-a-path"
ODD = (
    "nope", "nope/deep/er", ".", "..", "/", "~nobody/x", "a b", "it's", "new\nline", "50%", "%s{}", "ünï", "字",
    300 * "x", 2500 * "a/", "/proc/x", "/proc/self/mem", "/dev/null", "/dev/full", "/dev/zero", "/dev/null/x",
    "dangling", "dangling/x", "loop", "loop/x", "pipe", "pipe/x", "file", "file/x", "empty", "folder", "foreign",
    "of pipes", "a:b",
    "s3://bucket/x", "http://127.0.0.1:1/x", "C:\\x", "a\0b", "\ud800", "--help", "*", "$HOME", "name.", ".hidden",
    "out.csv", "out.json", "o/../p.html", "bytes.parquet", "list.json", "../../x",
)  # fmt: skip


def lay_out(folder: Path) -> None:
    """What the names above stand for, where something is there."""
    (folder / "file").write_text("some text\n")
    (folder / "empty").write_text("")
    (folder / "folder").mkdir()
    (folder / "foreign").mkdir()
    (folder / "foreign" / "mine.txt").write_text("mine")
    (folder / "foreign" / "config.json").write_text("{}")
    (folder / "of pipes").mkdir()
    for name in ("config.json", "config.yaml", "about.json", "dataset.json", "part.parquet"):
        os.mkfifo(folder / "of pipes" / name)
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to("gone/away")
    (folder / "loop").symlink_to("loop")
    (folder / "bytes.parquet").write_bytes(bytes(range(256)))
    (folder / "list.json").write_text("[1]")


def listing(*folders: Path) -> dict[str, tuple[int, int, int]]:
    """Path -> kind, size and time of the last change of everything in the folders. Locks do not count."""
    found = {}
    for folder in folders:
        for path in walk(folder):
            about = os.lstat(path)
            is_folder = stat.S_ISDIR(about.st_mode)
            size = 0 if is_folder else about.st_size
            found[path] = (stat.S_IFMT(about.st_mode), size, 0 if is_folder else about.st_mtime_ns)
    return found


def walk(folder: Path) -> Iterator[str]:
    for inside, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            if not name.endswith(LOCK):
                yield os.path.join(inside, name)


def with_value(cfg: DictConfig, value: str) -> DictConfig:
    """A copy of a configuration with a value in place of the placeholder, wherever it has come to stand."""
    copy = OmegaConf.create(replaced(OmegaConf.to_container(cfg), value))
    assert isinstance(copy, DictConfig)
    return copy


def replaced(node: Any, value: str) -> Any:
    if isinstance(node, dict):
        return {key: replaced(inner, value) for key, inner in node.items()}
    if isinstance(node, list):
        return [replaced(inner, value) for inner in node]
    return node.replace(PLACEHOLDER, value) if isinstance(node, str) else node


def spoiled(verb: Callable[[DictConfig], Any], cfg: DictConfig, key: str, here: Path, others: Path) -> list[str]:
    """Values of a key with which a verb ends badly, leaves something behind, or touches what was there.

    here: the folder that the verb is called in, laid out anew for each value. others: what it is made from.
    """
    found = []
    for number, value in enumerate(ODD):
        folder = here / f"{key}-{number}"
        folder.mkdir()
        lay_out(folder)
        os.chdir(folder)
        before = listing(folder, others)
        try:
            sentence = answer(lambda value=value: verb(with_value(cfg, value)))
        except AssertionError as error:
            found.append(f"{key}={value[:40]!r}: {error}")
            continue
        after = listing(folder, others)
        touched = [path for path, about in before.items() if after.get(path) != about]
        left = [path for path in after if path not in before] if sentence else []
        if touched or left:
            found.append(f"{key}={value[:40]!r} ({sentence[:80]}): touched {touched[:3]}, left {left[:3]}")
    return found
