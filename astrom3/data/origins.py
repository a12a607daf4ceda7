"""Where data come from: the Hugging Face hub, a HATS catalogue or a folder. `open(sub, seed)` gives a Source."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from astrom3.data import splits
from astrom3.data.layouts import Source, Table, hats, open_source
from astrom3.data.layouts.columns import ParquetFile
from astrom3.data.layouts.hub import open_processed
from astrom3.data.layouts.hub_files import by_split, config_folders
from astrom3.data.layouts.pairs import is_pairs, open_pairs, split_files
from astrom3.data.layouts.protocols import apply_protocol
from astrom3.data.layouts.remote import RemoteFile
from astrom3.data.readers.tables import LightCurveColumns
from astrom3.errors import UserError
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.schema import SPLITS
from astrom3.registry import constructible

log = logging.getLogger(__name__)
WAYS_OUT = "use a local copy with data=local data.path=<folder>, or the simulated survey with data=simulated"


class Origin(Protocol):
    """Anything that can give the source of one subset and split seed."""

    def open(self, sub: str, seed: int) -> Source:
        """Fetch or make what is not there yet, and open it; UserError where that is impossible."""
        ...


@constructible
@dataclass(frozen=True)
class Local:
    """A folder in any of the known layouts. band: of light curves in several, the one for networks of one band."""

    path: str | Path | None
    band: str | None = None

    def open(self, sub: str, seed: int) -> Source:
        if self.path is None or not str(self.path):
            raise UserError("data=local needs the folder of a data set: data.path=<folder>.")
        return open_source(self.path, sub, seed, self.band)


@constructible
@dataclass(frozen=True)
class Hats:
    """A HATS catalogue, whose partitions are read one after the other. id, label, light_curve and columns name columns;
    None: the usual ones. classes: None: those found. partition: the name of the only one to read."""

    path: str | Path | None
    id: str | None = None
    label: str | None = None
    light_curve: str | None = None
    columns: Mapping[str, Any] | None = None
    classes: Sequence[str] | None = None
    band: str | None = None
    wavelengths: Mapping[str, float] | None = None
    partition: str | None = None

    def catalogue(self) -> hats.HatsCatalogue:
        """Its properties and partitions."""
        if self.path is None or not str(self.path):
            raise UserError("data=hats needs the folder of a HATS catalogue: data.path=<folder>.")
        return hats.HatsCatalogue.open(self.path)

    def names(self, catalogue: hats.HatsCatalogue) -> hats.HatsColumns:
        """How its rows are read, by the first partition, so that all are read alike."""
        first = catalogue.partitions[0]
        options = {"measure": LightCurveColumns(**dict(self.columns or {})), "wavelengths": self.wavelengths}
        names = hats.HatsColumns.of(first, self.id, self.light_curve, self.label, **options)
        return replace(names, band=hats.HatsTable([first], names).choose_band(self.band))

    def open(self, sub: str, seed: int) -> Source:
        catalogue = self.catalogue()
        names = self.names(catalogue)
        chosen = []
        for one in catalogue.partitions:
            if self.partition in (None, one.name):
                chosen.append(one)

        if not chosen:
            raise UserError(f"{catalogue.root} has no partition {self.partition}.")

        classes = tuple(self.classes or ())
        if not classes and names.label is not None:
            classes = hats.class_names(catalogue.partitions, names.label)
        table = hats.HatsTable(chosen, names, classes)
        n = len(table)
        if self.partition is None:
            drawn = splits.split_80_10_10(n, seed)
            rows = {}
            for split in SPLITS:
                if (drawn == split).any():
                    rows[split] = np.flatnonzero(drawn == split)
        else:
            rows = {"test": np.arange(n)}

        first = next(iter(rows.values()))
        normaliser = Normaliser.fit(table.catalogue().values[first])
        tables: dict[str, Table] = dict.fromkeys(rows, table)
        note = f"band {names.band}" if names.band else ""
        source = Source(hats.LAYOUT, catalogue.root, "full", seed, classes, tables, rows, normaliser, note)
        source = source if sub == "full" else apply_protocol(source, splits.Protocol.parse(sub), seed)
        log.log(logging.INFO if self.partition is None else logging.DEBUG, "Found %s", source.describe())
        return source


@constructible
@dataclass(frozen=True)
class Hub:
    """A data set repository of the Hugging Face hub. Only the files of one configuration are fetched, or, where they
    are streamed, only the parts that are read.

    The endpoint is $HF_ENDPOINT, the cache `cache_dir` or huggingface_hub's own. What is in the cache is used when the
    hub cannot be reached.
    """

    repo: str = "AstroMLCore/AstroM3Processed"
    revision: str | None = None
    cache_dir: str | Path | None = None

    def open(self, sub: str, seed: int) -> Source:
        from huggingface_hub import snapshot_download

        base = splits.Protocol.parse(sub).base
        config = f"{base}_{seed}"
        wanted = [f"{folder}{config}/*" for folder in ("", "data/")]
        raw = ["photometry.zip", "spectra/*", f"splits/{base}/{seed}/*"]  # AstroM3Dataset
        with self._explained():
            folder = snapshot_download(
                self.repo,
                repo_type="dataset",
                revision=self.revision,
                cache_dir=str(self.cache_dir) if self.cache_dir else None,
                allow_patterns=[*wanted, *raw],
                endpoint=self.endpoint,
            )

        if not any(path.is_file() for path in Path(folder).rglob("*")):
            return self.stream(sub, seed)  # pairs of galaxies, which are never downloaded, or nothing

        with self._named():
            return open_source(folder, sub, seed)

    def stream(self, sub: str, seed: int) -> Source:
        """The same objects, of which nothing is downloaded but the ranges that are read. All are of one commit."""
        protocol = splits.Protocol.parse(sub)
        with self._explained():
            files = repository_files(self.repo, self.revision, self.endpoint)
        for config, folder in config_folders(protocol.base, seed):
            inside = {}
            for path, file in files.items():
                if path.startswith(f"{folder}/"):
                    inside[path.removeprefix(f"{folder}/")] = file
            names = by_split(inside, f"{self.repo}/{folder}")
            if names:
                parts = parquet_files(names, inside)
                root = Path(f"{self.repo}@{next(iter(inside.values())).revision[:8]}")
                with self._named():
                    source = open_processed(root, config, parts, protocol.base, seed)
                    source = apply_protocol(source, protocol, seed)
                log.info("Reading %s", source.describe())
                return source

        galaxies = parquet_files(split_files(files), files)
        if galaxies and is_pairs(galaxies):
            root = Path(f"{self.repo}@{next(iter(files.values())).revision[:8]}")
            with self._named():
                source = apply_protocol(open_pairs(root, galaxies, protocol.base, seed), protocol, seed)
            log.info("Reading %s", source.describe())
            return source
        if any(path.startswith("splits/") for path in files):
            raise UserError(f"{self.repo} holds no parquet, which streaming reads: leave data.streaming=true away.")

        raise self._lacks(f"{protocol.base}_{seed}")

    @property
    def endpoint(self) -> str:
        return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"

    def _lacks(self, config: str) -> UserError:
        return UserError(f"{self.repo} at {self.endpoint} has no {config}; choose another sub or seed, or {WAYS_OUT}.")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """What is said of the data names the repository that they come from."""
        try:
            yield
        except UserError as error:
            raise UserError(
                f"{self.repo} from {self.endpoint}: {error} Choose another sub or seed, or {WAYS_OUT}."
            ) from error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what huggingface_hub raises into one sentence with the ways out."""
        from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

        try:
            yield
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            where = f"{self.repo}" + (f" at revision {self.revision}" if self.revision else "")
            raise UserError(
                f"The hub at {self.endpoint} has no data set {where}, or it needs a login; correct data.repo, or "
                f"{WAYS_OUT}."
            ) from error
        except LocalEntryNotFoundError as error:
            raise UserError(
                f"The hub at {self.endpoint} cannot be reached and {self.repo} is not in the local cache; {WAYS_OUT}."
            ) from error
        except Exception as error:  # httpx, OSError, ...: whatever fails between here and the files
            what = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise UserError(
                f"Fetching {self.repo} from {self.endpoint} failed ({what}); try again, or {WAYS_OUT}."
            ) from error


def repository_files(repo: str, revision: str | None, endpoint: str) -> dict[str, RemoteFile]:
    """Path -> file of a data set repository, all at the commit that the revision (default: main) has now."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    hub = HfApi(endpoint=endpoint)
    commit = str(hub.dataset_info(repo, revision=revision).sha)
    files = {}
    for entry in hub.list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset"):
        if isinstance(entry, RepoFile):
            files[entry.path] = RemoteFile(repo, entry.path, commit, endpoint, entry.size, entry.blob_id)
    return files


def parquet_files(names: Mapping[str, Sequence[str]], files: Mapping[str, RemoteFile]) -> dict[str, list[ParquetFile]]:
    """The remote files of some names, by split."""
    found = {}
    for split, listed in names.items():
        found[split] = [ParquetFile(files[name]) for name in listed]
    return found


def open_origin(origin: Any, sub: str, seed: int, streaming: bool) -> Source:
    """The source of an origin, of which nothing is copied where it can be streamed."""
    if streaming and hasattr(origin, "stream"):
        return origin.stream(sub, seed)
    return origin.open(sub, seed)
