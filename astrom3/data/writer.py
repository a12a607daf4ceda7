"""Writes a data set in our own layout: objects as parquet, splits, statistics, rejected.csv and summary.json.

    with DatasetWriter(root, classes=CLASSES, name="my survey", provenance={"source": "..."}) as writer:
        writer.write(rows)                      # rows of OBJECT_SCHEMA
        writer.reject("star 7", "spectrum", "rejected", "file is truncated")
        writer.finish()

Everything is written to a hidden folder beside `root`, which takes its name in the last step: whatever happens before,
nothing half-written is ever found at `root`. Rows never pile up: memory stays at a few row groups.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from astrom3.data.bands import BandCounts
from astrom3.data.ownership import LAYOUT, output_folder, publish
from astrom3.data.rare import rare_classes
from astrom3.data.rows import catalogue_values, objects_table
from astrom3.data.splits import FRACTIONS, check_fractions, make_splits
from astrom3.errors import UserError
from astrom3.files import remove_leftovers, temporary_folder
from astrom3.modalities import kinds
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.quality import kind_of
from astrom3.modalities.schema import (
    MODALITIES,
    SEEDS,
    SPLIT_SCHEMA,
    SPLITS,
    SUBS,
    object_schema,
)

VERSION = 2  # of dataset.json; 1 has no modalities, targets, further_columns and split_fractions
ROW_GROUP = 256  # objects; about 20 MB with spectra
DECISIONS = ("repaired", "rejected")
PRESENCE = {name: kinds.modality(name).column for name in MODALITIES}
REJECTED_COLUMNS = ("object_id", "modality", "decision", "reason")


@dataclass
class PublishedSplit:
    """A split that is kept as it came: ids by split, and its statistics (info.json of the raw data set)."""

    members: dict[str, list[str]]
    info: dict[str, Any] = field(default_factory=dict)


class DatasetWriter:
    """Use as a context manager: leaving it without `finish` (error, interrupt) removes what was written.

    classes: label id = position. A row with another label, without id or with an id seen before is not written but
    listed in rejected.csv; a null label is an unlabelled object. targets: numbers to predict -> their unit, None where
    it is not known; rows have them in the struct `targets`. further_columns: numbers that the table of objects has
    besides, by name; a later conversion may make targets of them. bands: points of light curves have a band;
    wavelengths: those of bands by name [Angstrom], where they are not the known ones.
    """

    version = VERSION
    row_group = ROW_GROUP
    presence: ClassVar[Mapping[str, str]] = PRESENCE
    counted: ClassVar[tuple[str, ...]] = ("light_curve", "spectrum", "photo_cols", "meta_cols")  # columns

    def __init__(
        self,
        root: Path | str,
        *,
        classes: Sequence[str],
        name: str,
        provenance: Mapping[str, Any],
        rows_per_file: int = 2048,
        overwrite: bool = False,
        targets: Mapping[str, str | None] | None = None,
        further_columns: Sequence[str] = (),
        bands: bool = False,
        wavelengths: Mapping[str, float] | None = None,
    ) -> None:
        self.root = Path(root).absolute()
        remove_leftovers(self.root)
        if self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            if not overwrite:
                raise UserError(f"{self.root} exists already; give another folder, or overwrite=true to replace it.")
            if output_folder(self.root).files is None:
                raise UserError(
                    f"{self.root} is not a data set of this program, so it is not replaced; remove it first."
                )
        if len(set(classes)) != len(classes):
            raise UserError(f"classes {list(classes)} of {self.root} name a class twice; name each once.")

        self.classes = list(classes)
        self.name = name
        self.provenance = dict(provenance)
        self.overwrite = overwrite
        self.targets = dict(targets or {})
        self.further_columns = list(further_columns)
        self.bands = BandCounts(wavelengths or {}) if bands else None
        self.schema = object_schema(self.targets, bands)
        self.rows_per_file = max(rows_per_file // self.row_group, 1) * self.row_group
        self._labels: list[str | None] = []
        self._ids: dict[str, None] = {}  # in order, and a set
        self._values: list[np.ndarray] = []  # catalogue values of all objects, (rows, 38)
        self._present: Counter[str] = Counter()
        self._decisions: Counter[tuple[str, str, str]] = Counter()
        self._words: dict[str, str] = {}  # kind of a decision -> how it is called
        self._pending: list[pa.Table] = []
        self._file: pq.ParquetWriter | None = None
        self._rows_in_file = self._n_files = 0
        self._done = False

        self._temp = temporary_folder(self.root)
        try:
            (self._temp / "objects").mkdir(parents=True)
        except OSError as error:
            raise UserError(f"cannot write to {self.root.parent}: {error.strerror}; choose another folder.") from error

        self._rejected = (self._temp / "rejected.csv").open("w", newline="", encoding="utf-8")
        self._rejected_csv = csv.writer(self._rejected, lineterminator="\n")
        self._rejected_csv.writerow(REJECTED_COLUMNS)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._done:
            self.abort()

    def abort(self) -> None:
        """Remove everything written so far; `root` is left as it was."""
        self._done = True
        if self._file is not None:
            self._file.close()
            self._file = None
        self._rejected.close()
        shutil.rmtree(self._temp, ignore_errors=True)

    def __len__(self) -> int:
        return len(self._ids)

    def file(self, name: str) -> Path:
        """Where to write one more file of the data set before `finish`."""
        return self._temp / name

    def write(self, batch: pa.RecordBatch | pa.Table | Sequence[Mapping[str, Any]]) -> None:
        """Append objects: Arrow data of OBJECT_SCHEMA, or a list of dicts in which missing keys are null."""
        if isinstance(batch, pa.RecordBatch):
            table = pa.Table.from_batches([batch])
        else:
            table = batch if isinstance(batch, pa.Table) else objects_table(batch, self.targets, self.bands is not None)
        if not table.schema.equals(self.schema):
            table = table.select(self.schema.names).cast(self.schema)
        table = self._accepted(table)
        if not len(table):
            return
        self._labels += table["label"].to_pylist()
        self._values.append(self.catalogue_of(table))
        for column in self.counted:
            self._present[column] += len(table) - table[column].null_count
        if self.bands is not None:
            self.bands.add(table["light_curve"])
        self._pending.append(table)
        while sum(map(len, self._pending)) >= self.row_group:
            self._write_group()

    def catalogue_of(self, table: pa.Table) -> np.ndarray:
        """Catalogue values (n, C) that the statistics of a split are made of."""
        return catalogue_values(table)

    def statistics(self, values: np.ndarray) -> dict[str, Any]:
        """Statistics of the catalogue values (n, C) of a train split."""
        return Normaliser.fit(values).to_dict()

    def encoding(self) -> dict[str, Any]:
        """Further options of the parquet files."""
        return {}

    def further_entries(self) -> dict[str, Any]:
        """Entries of dataset.json that only some kinds of surveys have."""
        return {} if self.bands is None else {"bands": self.bands.listing()}

    def reject(self, object_id: str, modality: str, decision: str, reason: str) -> None:
        """List one decision on bad input: `repaired`, or `rejected` (that modality, or the object)."""
        if decision not in DECISIONS:
            raise ValueError(f"decision {decision!r} is none of {DECISIONS}")
        self._rejected_csv.writerow((object_id, modality, decision, reason))
        words = kind_of(reason)
        kind = re.sub(r"\s+", " ", re.sub(r"\b[\d.,]*\d\b", "", words)).strip()
        self._decisions[modality, decision, kind] += 1
        if self._words.setdefault(kind, words) != words:
            self._words[kind] = kind  # reasons that differ in their numbers are counted as one, without them

    def finish(
        self,
        seeds: Iterable[int] = SEEDS,
        subs: Iterable[str] = SUBS,
        *,
        fractions: Sequence[float] = FRACTIONS,
        published: Mapping[tuple[str, int], PublishedSplit] | None = None,
        summary: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write splits and summary, give the folder its name, return it.

        published: splits to keep as they are, by (sub, seed); then `seeds`, `subs` and `fractions` are not used.
        summary: further entries of summary.json. Subsets need labels: a data set without any gets full splits only.
        """
        check_fractions(fractions)
        if not self._ids:
            reasons = "; ".join(f"{n} x {m}: {self._words[r]}" for (m, _, r), n in self._decisions.most_common(3))
            raise UserError(f"no object is left to write to {self.root} ({reasons or 'the input is empty'}).")
        while self._pending:
            self._write_group()
        if self._file is not None:
            self._file.close()
            self._file = None
        self._rejected.close()
        values = np.concatenate(self._values)
        splits: dict[str, Any] = {}
        (self._temp / "splits").mkdir()
        if published is not None:
            for (sub, seed), split in published.items():
                splits[f"{sub}_{seed}"] = self._write_split(f"{sub}_{seed}", self._names(split), values, split.info)
        else:
            labelled = any(label is not None for label in self._labels)
            possible = subs if labelled else {"full"} & set(subs)
            for seed in seeds:
                for sub in possible:
                    names = make_splits(self._labels, sub, seed, fractions)
                    splits[f"{sub}_{seed}"] = self._write_split(f"{sub}_{seed}", names, values, {})
        counts = self._counts()
        dataset: dict[str, Any] = {
            "name": self.name,
            "layout": LAYOUT,
            "version": self.version,
            "modalities": [name for name, column in self.presence.items() if self._present[column]],
            "classes": self.classes,
            "targets": [{"name": name, "unit": unit} for name, unit in self.targets.items()],
            "further_columns": self.further_columns,
            "split_fractions": list(fractions),
            "provenance": self.provenance,
            "n_objects": len(self._ids),
            "counts": counts,
            "rare_classes": rare_classes(self.classes, splits),
        }
        _write_json(self._temp / "dataset.json", dataset | self.further_entries())
        content = {
            **counts,
            **(summary or {}),
            "decisions": self._decision_counts(),
            "splits": splits,
        }
        _write_json(self._temp / "summary.json", content)
        publish(self._temp, self.root, self.overwrite)
        self._done = True
        return self.root

    def _accepted(self, table: pa.Table) -> pa.Table:
        keep = np.ones(len(table), dtype=bool)
        ids = table["object_id"].to_pylist()
        labels = table["label"].to_pylist()
        for i, (object_id, label) in enumerate(zip(ids, labels, strict=True)):
            if not object_id:
                self.reject("", "object", "rejected", "no object_id")
            elif object_id in self._ids:
                self.reject(object_id, "object", "rejected", "object_id occurs twice: the first one is kept")
            elif label is not None and label not in self.classes:
                self.reject(object_id, "object", "rejected", f"unknown class: {label}")
            else:
                self._ids[object_id] = None
                continue
            keep[i] = False
        return table if keep.all() else table.filter(pa.array(keep))

    def _write_group(self) -> None:
        """Write one row group of at most `row_group` pending rows."""
        table = pa.concat_tables(self._pending)
        group = table.slice(0, self.row_group)
        rest = table.slice(self.row_group)
        self._pending = [rest] if len(rest) else []
        if self._file is None:
            path = self._temp / "objects" / f"objects-{self._n_files:05d}.parquet"
            self._file = pq.ParquetWriter(path, self.schema, compression="zstd", **self.encoding())
            self._n_files += 1
            self._rows_in_file = 0
        self._file.write_table(group.combine_chunks(), row_group_size=self.row_group)
        self._rows_in_file += len(group)
        if self._rows_in_file >= self.rows_per_file:
            self._file.close()
            self._file = None

    def _names(self, split: PublishedSplit) -> np.ndarray:
        """Split name of every object written, "" where it is in none; published ids never written are left out."""
        where: dict[str, str] = {}
        for name, ids in split.members.items():
            where |= dict.fromkeys(ids, name)
        return np.array([where.get(object_id, "") for object_id in self._ids], dtype="<U10")

    def _write_split(self, stem: str, names: np.ndarray, values: np.ndarray, info: Mapping[str, Any]) -> dict[str, Any]:
        """Write the rows and the statistics of a split. names (n,): of the split of each object, "" for none."""
        chosen = np.flatnonzero(names != "")
        ids = np.array(list(self._ids), dtype=object)
        labels = np.array(self._labels, dtype=object)
        rows = {"object_id": ids[chosen].tolist(), "split": names[chosen].tolist()}
        table = pa.table(rows, schema=SPLIT_SCHEMA)
        pq.write_table(table, self._temp / "splits" / f"{stem}.parquet", compression="zstd")

        counts = {}
        for split in SPLITS:
            by_label = Counter(labels[names == split].tolist())
            counts[split] = {name: by_label[name] for name in self.classes}
            if by_label[None]:
                counts[split]["unlabelled"] = by_label[None]
        statistics = dict(info) or self.statistics(values[names == SPLITS[0]])
        content = statistics | {"classes": self.classes, "counts": counts}
        _write_json(self._temp / "splits" / f"{stem}.json", content)
        return counts

    def _counts(self) -> dict[str, Any]:
        classes = Counter(self._labels)
        return {
            "objects": len(self._ids),
            "classes": {c: classes[c] for c in self.classes},
            "unlabelled": classes[None],
            "present": {column: self._present[column] for column in self.counted},
        }

    def _decision_counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """decision -> modality -> kind of reason -> how many."""
        tree: dict[str, dict[str, dict[str, int]]] = {d: {} for d in DECISIONS}
        for (modality, decision, kind), n in sorted(self._decisions.items()):
            tree[decision].setdefault(modality, {})[self._words[kind]] = n
        return tree


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
