"""Embeddings of a HATS catalogue as another one with the same pixels, which LSDB joins with it.

A part is a partition: its rows are read, embedded and written before the next one is opened, so memory does not grow
with the catalogue. Rows keep their position and the id of their catalogue. A partition whose objects are all rejected
has no file; what was rejected is in rejected/, one file for each partition, and says which ones are done.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock
from omegaconf import OmegaConf

from astrom3 import registry
from astrom3.data.layouts.columns import ParquetFile
from astrom3.data.layouts.hats import HatsCatalogue, HatsColumns, HatsTable, Partition
from astrom3.data.origins import Hats
from astrom3.embed.job import MANIFEST, REJECTED, SUMMARY, Job, weights_digest
from astrom3.errors import UserError
from astrom3.extras import need
from astrom3.files import replacing, write_json
from astrom3.inference.embeddings import Embeddings, from_batch
from astrom3.inference.trained import data_of
from astrom3.locks import LOCK
from astrom3.modalities.catalogue import PERIOD
from astrom3.modalities.kinds import of_argument
from astrom3.modalities.quality import Decision, read_decisions, write_decisions
from astrom3.modalities.schema import PHOTO_COLS
from astrom3.progress import Advance, ignored

log = logging.getLogger(__name__)
PROPERTIES = ("hats.properties", "properties", "partition_info.csv", "dataset/_metadata", "dataset/_common_metadata")


@dataclass
class HatsJob(Job):
    """A job whose parts are the partitions of a catalogue. origin: how it is read."""

    def open_data(self) -> None:
        """The catalogue of the configuration, none of whose rows is read yet."""
        cfg = self.cfg
        if self.pooling is not None:
            raise UserError(f"pooling={self.pooling} reads whole surveys only: leave it away with format=hats")

        origin = registry.instantiate(cfg.data.origin, cfg.get("allow"))
        if not isinstance(origin, Hats):
            raise UserError("format=hats embeds a HATS catalogue: give data=hats data.path=<catalogue>")

        self.origin: Hats = origin
        self.catalogue: HatsCatalogue = origin.catalogue()
        self.names: HatsColumns = origin.names(self.catalogue)
        self.parts = list(self.catalogue.partitions)
        missing = []
        for name in self.model.modalities:
            if name != of_argument("light_curve"):
                missing.append(name)

        if missing:
            raise UserError(
                f"{self.model.name} reads {', '.join(self.model.modalities)}, and a HATS catalogue gives light curves "
                "alone: take a model of light curves"
            )
        if self.model.uses_features and PHOTO_COLS[PERIOD] not in ParquetFile(self.parts[0].path).schema.names:
            log.warning(
                "%s reads period, amplitude and the like, which the catalogue does not have: they are taken as unknown",
                self.model.name,
            )

    def describe(self) -> dict[str, Any]:
        """What decides what is in the partitions."""
        return {
            "model": weights_digest(self.cfg.model),
            "evaluation": self.cfg.evaluation,
            "format": "hats",
            "coverage": self.coverage,
            "columns": [self.names.id, self.names.light_curve, self.names.label, self.names.band],
            "data": HatsTable(self.parts, self.names).fingerprint(self.out),
        }

    def files(self) -> list[str]:
        lists = [rejected_name(part) for part in self.parts]
        return [MANIFEST, SUMMARY, REJECTED, *PROPERTIES, *(part.name for part in self.parts), *lists]

    def missing(self) -> list[Any]:
        """Partitions that have neither rows nor a list of what was rejected."""
        found = []
        for part in self.parts:
            if not (self.out / rejected_name(part)).is_file():
                found.append(part)
        return found

    def size_of(self, part: Any) -> int:
        return sum(ParquetFile(part.path).group_rows)

    def make(self, part: Any, advance: Advance = ignored) -> int:
        """Write the rows of one partition, then what was rejected; returns its number of rows."""
        cfg = self.cfg
        chosen = OmegaConf.merge(cfg.data, {"origin": {"partition": part.name}})
        options = {"eval_batch_size": cfg.batch, "on_device": False}
        data = data_of(self.model, chosen, "full", cfg.seed, cfg.get("allow"), **options)
        data.setup("test")
        ids = data.object_ids("test")
        pieces = []
        for batch in data.split_dataloader("test"):
            advance(len(batch["index"]))
            if len(batch["index"]):
                encoded = self.model.encode(batch)
                pieces.append(from_batch(batch, encoded, ids, "test", self.model, data.classes, self.coverage))

        path = self.out / part.name
        rejected = self.out / rejected_name(part)
        for folder in (path.parent, rejected.parent):
            folder.mkdir(parents=True, exist_ok=True)
        if pieces:
            table = self.rows_of(part, Embeddings.concatenate(pieces), ids)
            with replacing(path) as temporary:
                pq.write_table(table, temporary, compression="zstd")
                with FileLock(self.out / LOCK):
                    self.check_unchanged()
                    os.replace(temporary, path)

        write_decisions(rejected, data.splits["test"].decisions)
        return sum(len(piece) for piece in pieces)

    def rows_of(self, part: Partition, embedded: Embeddings, ids: np.ndarray) -> pa.Table:
        """Position and id as the catalogue has them, then what the model says; in the order of the catalogue."""
        known = self.catalogue.properties
        position = [known.healpix_column or "_healpix_29", known.ra_column, known.dec_column, self.names.id]
        schema = ParquetFile(part.path).schema.names
        position = [name for name in dict.fromkeys(position) if name in schema]
        there = ParquetFile(part.path).columns(position)
        place = dict(zip(ids.tolist(), range(len(ids)), strict=True))
        rows = np.array([place[name] for name in embedded.ids.tolist()], dtype=np.int64)
        order = np.argsort(rows, kind="stable")
        table = there.take(pa.array(rows[order]))
        told = embedded.take(order).to_table()
        for name in told.column_names:
            if name in ("object_id", "split") or (name == "label" and self.names.label is None):
                continue
            column = told[name]
            if pa.types.is_fixed_size_list(column.type):  # which nested-pandas does not take
                column = pc.cast(column, pa.list_(pa.float32()))
            table = table.append_column(name, column)

        return table.replace_schema_metadata(None)

    def finish(self) -> dict[str, Any]:
        """Where all partitions are there: what makes a catalogue of them, and the counts."""
        if missing := self.missing():
            log.info("%d of %d partitions are still to come (other jobs)", len(missing), len(self.parts))
            return {"complete": False, "parts": len(self.parts), "missing": len(missing)}

        written = []
        for part in self.parts:
            if (self.out / part.name).is_file():
                written.append(part)

        if not written:
            raise UserError(f"no object of {self.catalogue.root} can be used: see {self.out}/rejected")

        rows = self.write_properties(written)
        decisions = list(self.rejected())
        write_decisions(self.out / REJECTED, decisions)
        kinds = Counter(f"{d.decision} {d.modality}" for d in decisions)
        summary = {
            "complete": True,
            "parts": len(self.parts),
            "objects": rows,
            "decisions": dict(kinds),
        }
        write_json(self.out / SUMMARY, summary)
        log.info("%s: %s objects in %d partitions", self.out, f"{rows:,}", len(written))
        return summary

    def write_properties(self, written: list[Partition]) -> int:
        """hats.properties, partition_info.csv and the metadata of parquet; returns the number of rows."""
        hats = need("hats", "hats", "format=hats")
        from hats.catalog.dataset.table_properties import TableProperties
        from hats.catalog.partition_info import PartitionInfo
        from hats.io.parquet_metadata import write_parquet_metadata

        pixels = [hats.pixel_math.HealpixPixel(part.order, part.pixel) for part in written]
        PartitionInfo.from_healpix(pixels).write_to_file(catalog_path=self.out)
        rows = int(write_parquet_metadata(self.out))
        known = self.catalogue.properties
        about = {
            "catalog_name": f"{known.catalog_name}_embeddings",
            "catalog_type": "object",
            "total_rows": rows,
            "ra_column": known.ra_column,
            "dec_column": known.dec_column,
            "healpix_column": known.healpix_column,
            "healpix_order": known.healpix_order,
            "npix_suffix": ".parquet",
        }
        made = TableProperties.new_provenance_dict(self.out, builder="astrom3")
        TableProperties(
            **(made | {name: value for name, value in about.items() if value is not None})
        ).to_properties_file(self.out)
        return rows

    def rejected(self) -> Iterator[Decision]:
        """Every decision of every partition."""
        for part in self.parts:
            yield from read_decisions(self.out / rejected_name(part))


def rejected_name(part: Partition) -> str:
    """Where the decisions on the objects of a partition are listed."""
    return f"rejected/Norder={part.order}-Npix={part.pixel}.csv"
