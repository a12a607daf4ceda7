"""Open a folder of data, whichever of the known layouts it has: `open_source(path, sub, seed)`.

`sub` is a subset that the folder has, or a protocol made of its full split (data/splits.py): shot20, full-fold1of3.

| layout      | recognised by                                                             |
| astrom3     | dataset.json                                                              |
| galaxies    | dataset.json that says "kind": "galaxies"                                 |
| magnitudes  | dataset.json that says "kind": "light curves"                             |
| raw         | splits/{sub}/{seed}/info.json (the files of AstroM3Dataset)               |
| processed-1 | {sub}_{seed}[_norm]/ of parquet, `metadata` a struct                      |
| processed-2 | {sub}_{seed}/ of parquet, `metadata` a list of 34 numbers                 |
| pairs       | train*.parquet, test*.parquet with image and spectrum of galaxies         |
| paired file | an HDF5 file with groups "0" to "9" of galaxies, or its folder            |
| images      | {north,south}/images_npix152_*.h5 of the Legacy Survey                    |
| arrow       | dataset_dict.json or state.json, in it or in {sub}_{seed}[_norm]/: what   |
|             | `save_to_disk` of the library `datasets` writes, of any of these columns  |
"""

from __future__ import annotations

import logging
from pathlib import Path

from astrom3.data.layouts.arrow import open_saved
from astrom3.data.layouts.galaxies import is_galaxies, open_galaxies
from astrom3.data.layouts.galaxy_hdf5 import image_files, open_images, open_paired_file, paired_file
from astrom3.data.layouts.hub import open_processed
from astrom3.data.layouts.hub_files import config_files
from astrom3.data.layouts.magnitudes import is_magnitudes, open_magnitudes
from astrom3.data.layouts.ours import open_ours
from astrom3.data.layouts.pairs import open_pairs, paired_files
from astrom3.data.layouts.protocols import apply_protocol
from astrom3.data.layouts.repeats import without_repeats
from astrom3.data.layouts.table import Catalogue, Group, Piece, Source, Table
from astrom3.data.splits import Protocol
from astrom3.errors import UserError
from astrom3.places import expanded

__all__ = ["Catalogue", "Group", "Piece", "Source", "Table", "open_source"]
log = logging.getLogger(__name__)


def open_source(path: str | Path, sub: str = "full", seed: int = 42, band: str | None = None) -> Source:
    """The source of one subset and split seed under `path`; says in the log which layout was found.

    band: of light curves in several bands, the one that networks of one band read; None: the best sampled.
    """
    root = expanded(path)
    if not root.is_dir() and not (root.is_file() and paired_file(root)):
        raise UserError(f"{root} is not a folder; give the folder of a data set as data.path.")
    protocol = Protocol.parse(sub)
    source = apply_protocol(without_repeats(open_layout(root, protocol.base, seed, band)), protocol, seed)
    log.info("Found %s", source.describe())
    return source


def open_layout(root: Path, sub: str, seed: int, band: str | None = None) -> Source:
    """The source of a subset as the layout of the folder has it."""
    if root.is_file():
        return open_paired_file(root, sub, seed)

    config, files = config_files(root, sub, seed)
    has_about = (root / "dataset.json").is_file()
    if has_about and not is_galaxies(root) and not is_magnitudes(root):
        return open_ours(root, sub, seed, band)
    if band is not None:
        raise UserError(f"data.band={band}: the light curves of {root} do not say their bands, leave it away.")
    if has_about:
        return open_galaxies(root, sub, seed) if is_galaxies(root) else open_magnitudes(root, sub, seed)
    if (root / "splits").is_dir():
        from astrom3.data.layouts.raw import open_raw

        return open_raw(root, sub, seed)

    saved = None if files else open_saved(root, sub, seed) or open_published_galaxies(root, sub, seed)
    if saved is not None:
        return saved
    if not files:
        found = sorted(p.name + ("/" if p.is_dir() else "") for p in root.iterdir() if not p.name.startswith("."))
        raise UserError(
            f"{root} holds no data set for {sub}_{seed}: found {', '.join(found[:12]) or 'nothing'}"
            f"{' ...' if len(found) > 12 else ''}; expected dataset.json (own layout), "
            f"splits/{sub}/{seed}/info.json (raw AstroM3Dataset), {sub}_{seed}/train*.parquet (AstroM3Processed), "
            "dataset_dict.json (save_to_disk of datasets), or galaxies as AstroCLIP has them (parquet or HDF5)."
        )

    return open_processed(root, config, files, sub, seed)


def open_published_galaxies(root: Path, sub: str, seed: int) -> Source | None:
    """The source of a folder of parquet or HDF5 files as AstroCLIP's are; None where it holds none of them."""
    parquet = paired_files(root)
    if parquet:
        return open_pairs(root, parquet, sub, seed)
    if image_files(root):
        return open_images(root, sub, seed)
    hdf5 = paired_file(root)
    return None if hdf5 is None else open_paired_file(hdf5, sub, seed)
