"""Where data come from: the Hugging Face hub, a folder, or the simulated survey. `open(sub, seed)` gives a Source."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from astrom3.data import splits
from astrom3.data.layouts import Source, open_source
from astrom3.errors import UserError, shown
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
class Simulated:
    """The simulated survey, made once under `root` (default: the cache folder). Never stands in for real data.

    survey: "stars", or "galaxies" or "macho" (light curves in magnitudes), of which none lacks an observation and no
    label is swapped.
    """

    n_objects: int = 21440
    seed: int = 0
    root: str | Path | None = None
    missing_spectra: float = 0.0
    missing_light_curves: float = 0.0
    swapped_labels: float = 0.0
    survey: str = "stars"

    def open(self, sub: str, seed: int) -> Source:
        from filelock import FileLock

        from astrom3.data.store import cache_root

        shares: dict[str, Any] = {
            "missing_spectra": self.missing_spectra,
            "missing_light_curves": self.missing_light_curves,
            "swapped_labels": self.swapped_labels,
        }
        version, write = self._survey({key: value for key, value in shares.items() if value})
        name = f"simulated-v{version}-{self.n_objects}-{self.seed}"
        if self.survey != "stars":
            name = f"simulated-{self.survey}-v{version}-{self.n_objects}-{self.seed}"
        name += "".join(f"-{key}-{value:g}" for key, value in shares.items() if value)
        folder = (Path(self.root).expanduser() if self.root else cache_root() / "simulated") / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # the writer renames a finished folder: what is there is whole
            if not (folder / "dataset.json").is_file():
                log.info("Simulating a survey of %d objects into %s", self.n_objects, shown(folder))
                write(folder)
        return open_source(folder, sub, seed)

    def _survey(self, shares: Mapping[str, Any]) -> tuple[int, Callable[[Path], Any]]:
        """Version of the chosen simulation, and what writes it to a folder. shares: those that are not 0."""
        if self.survey == "stars":
            from astrom3.simulate.survey import VERSION, simulate

            return VERSION, partial(simulate, n_objects=self.n_objects, seed=self.seed, **shares)
        if self.survey not in ("galaxies", "macho"):
            raise UserError(f"data.survey={self.survey} does not exist: it is one of stars, galaxies, macho")
        if shares:
            raise UserError(f"data.{next(iter(shares))} belongs to data.survey=stars: leave it away")
        if self.survey == "macho":
            from astrom3.simulate import macho

            return macho.GENERATOR_VERSION, partial(macho.write, objects=self.n_objects, seed=self.seed)
        from astrom3.simulate.galaxies.survey import GENERATOR_VERSION, write

        return GENERATOR_VERSION, partial(write, objects=self.n_objects, seed=self.seed)


@constructible
@dataclass(frozen=True)
class Hub:
    """A data set repository of the Hugging Face hub; only the files of one configuration are fetched.

    The endpoint is $HF_ENDPOINT, the cache `cache_dir` or huggingface_hub's own. What is in the cache is used when the
    hub cannot be reached.
    """

    repo: str = "AstroMLCore/AstroM3Processed"
    revision: str | None = None
    cache_dir: str | Path | None = None

    def open(self, sub: str, seed: int) -> Source:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

        endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        base = splits.Protocol.parse(sub).base
        config = f"{base}_{seed}"
        wanted = [f"{folder}{config}/*" for folder in ("", "data/")]
        raw = ["photometry.zip", "spectra/*", f"splits/{base}/{seed}/*"]  # AstroM3Dataset
        cache = str(self.cache_dir) if self.cache_dir else None
        try:
            folder = snapshot_download(
                self.repo,
                repo_type="dataset",
                revision=self.revision,
                cache_dir=cache,
                allow_patterns=[*wanted, *raw],
                endpoint=endpoint,
            )
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            where = f"{self.repo}" + (f" at revision {self.revision}" if self.revision else "")
            raise UserError(
                f"The hub at {endpoint} has no data set {where}, or it needs a login; correct data.repo, or {WAYS_OUT}."
            ) from error
        except LocalEntryNotFoundError as error:
            raise UserError(
                f"The hub at {endpoint} cannot be reached and {self.repo} is not in the local cache; {WAYS_OUT}."
            ) from error
        except Exception as error:  # httpx, OSError, ...: whatever fails between here and the files
            what = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise UserError(
                f"Fetching {self.repo} from {endpoint} failed ({what}); try again, or {WAYS_OUT}."
            ) from error
        if not any(path.is_file() for path in Path(folder).rglob("*")):
            raise UserError(f"{self.repo} at {endpoint} has no {config}; choose another sub or seed, or {WAYS_OUT}.")
        try:
            return open_source(folder, sub, seed)
        except UserError as error:
            raise UserError(
                f"{self.repo} from {endpoint}: {error} Choose another sub or seed, or {WAYS_OUT}."
            ) from error
