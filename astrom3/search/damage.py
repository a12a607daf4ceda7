"""What the database of an index says of damaged files, as one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from astrom3.errors import UserError, first_line

OURS = (UserError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError)  # passed on as they are


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Any error of LanceDB in the block becomes a UserError that names the folder. A damaged file may even let its
    Rust code panic, which Python sees as a class of its own."""
    try:
        yield
    except OURS:
        raise
    except BaseException as error:
        reason = first_line(error)[:120]
        raise UserError(f"{folder} is damaged ({reason}): build it again with overwrite=true") from None
