"""The simulated survey as an origin of data (data=simulated): made once, then read like any folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import FileLock

from astrom3.data.layouts import Source, open_source
from astrom3.errors import UserError, shown
from astrom3.places import cache_root, expanded
from astrom3.registry import constructible

log = logging.getLogger(__name__)
SHARES: dict[str, tuple[str, ...]] = {  # survey -> what may be missing in it, or wrong
    "stars": ("missing_spectra", "missing_light_curves", "swapped_labels"),
    "galaxies": ("missing_spectra", "missing_images"),
    "macho": (),
}
KNOWN = tuple(dict.fromkeys(chain.from_iterable(SHARES.values())))  # in the order of names of folders


def check_shares(survey: str, shares: Iterable[str], prefix: str = "") -> None:
    """UserError for a survey that does not exist, and for the first of the shares (those that are not 0) which it does
    not have. prefix: of the keys on the command line."""
    if survey not in SHARES:
        raise UserError(f"{prefix}survey={survey} does not exist: it is one of {', '.join(SHARES)}")
    for key in shares:
        if key not in SHARES[survey]:
            owners = " or ".join(f"{prefix}survey={name}" for name in SHARES if key in SHARES[name])
            raise UserError(f"{prefix}{key} belongs to {owners}: leave it away")


@constructible
@dataclass(frozen=True)
class Simulated:
    """The simulated survey, made once under `root` (default: the cache folder). Never stands in for real data.

    survey: "stars", "galaxies" or "macho" (light curves in magnitudes). The shares of each are those of SHARES.
    """

    n_objects: int = 21440
    seed: int = 0
    root: str | Path | None = None
    missing_spectra: float = 0.0
    missing_light_curves: float = 0.0
    swapped_labels: float = 0.0
    survey: str = "stars"
    missing_images: float = 0.0

    def open(self, sub: str, seed: int) -> Source:
        shares = {key: getattr(self, key) for key in KNOWN if getattr(self, key)}
        version, write = self._survey(shares)
        name = f"simulated-v{version}-{self.n_objects}-{self.seed}"
        if self.survey != "stars":
            name = f"simulated-{self.survey}-v{version}-{self.n_objects}-{self.seed}"
        name += "".join(f"-{key}-{value:g}" for key, value in shares.items())
        folder = (expanded(self.root) if self.root else cache_root() / "simulated") / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # the writer renames a finished folder: what is there is whole
            if not (folder / "dataset.json").is_file():
                log.info("Simulating a survey of %d objects into %s", self.n_objects, shown(folder))
                write(folder)
        return open_source(folder, sub, seed)

    def _survey(self, shares: Mapping[str, Any]) -> tuple[int, Callable[[Path], Any]]:
        """Version of the chosen simulation, and what writes it to a folder. shares: those that are not 0."""
        check_shares(self.survey, shares, "data.")
        if self.survey == "stars":
            from astrom3.simulate.survey import VERSION, simulate

            return VERSION, partial(simulate, n_objects=self.n_objects, seed=self.seed, **shares)
        if self.survey == "macho":
            from astrom3.simulate import macho

            return macho.GENERATOR_VERSION, partial(macho.write, objects=self.n_objects, seed=self.seed)
        from astrom3.simulate.galaxies.survey import GENERATOR_VERSION, write

        return GENERATOR_VERSION, partial(write, objects=self.n_objects, seed=self.seed, **shares)
