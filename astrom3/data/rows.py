"""How many rows a file of parquet may claim."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from astrom3.errors import UserError, shown

MOST_ROWS = 10**8


def check_rows(path: Path, metadata: pq.FileMetaData) -> None:
    """UserError where a file claims more rows than a catalogue has: ids and labels are kept in memory."""
    if metadata.num_rows > MOST_ROWS:
        raise UserError(
            f"{shown(path)} claims {metadata.num_rows:,} rows, more than can be kept: write it in smaller parts."
        )
