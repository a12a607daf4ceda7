"""A user's survey of galaxies in files: a table, cutouts as FITS and .npy, spectra as DESI, SDSS and columns."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from astrom3.simulate.galaxies.survey import draw

GRID = 3600 + 0.8 * np.arange(7781)
SIDE = 32  # pixels of the cutouts; they stand in zeros
CAMERAS = {"B": (3600.0, 5800.0), "R": (5760.0, 7620.0), "Z": (7520.0, 9824.0)}


def write_desi(
    path: Path, ids: list[int], flux: np.ndarray, ivar: np.ndarray, masked: tuple[int, int] = (0, 0)
) -> None:
    """A coadd of some targets: flux and ivar (n, 7781). masked: pixels of the camera R of the first target."""
    hdus: list[Any] = [fits.PrimaryHDU()]
    columns = [fits.Column("TARGETID", "K", array=np.array(ids, dtype=np.int64))]
    hdus.append(fits.BinTableHDU.from_columns(columns, name="FIBERMAP"))
    for camera, (first, last) in CAMERAS.items():
        here = (first - 0.1 < GRID) & (last + 0.1 > GRID)
        mask = np.zeros((len(ids), int(here.sum())), dtype=np.int32)
        if camera == "R":
            mask[0, masked[0] : masked[1]] = 1
        parts = {"WAVELENGTH": GRID[here], "FLUX": flux[:, here], "IVAR": ivar[:, here], "MASK": mask}
        hdus += [fits.ImageHDU(values, name=f"{camera}_{what}") for what, values in parts.items()]
    fits.HDUList(hdus).writeto(path)


def write_sdss(path: Path, flux: np.ndarray, ivar: np.ndarray) -> None:
    """A spectrum (7781,) on SDSS's pixels, 3800 to 9200 Angstrom."""
    loglam = np.arange(np.log10(3800.0), np.log10(9200.0), 1e-4)
    columns = [
        fits.Column("flux", "E", array=np.interp(10**loglam, GRID, flux)),
        fits.Column("loglam", "E", array=loglam),
        fits.Column("ivar", "E", array=np.interp(10**loglam, GRID, ivar)),
    ]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="COADD")]).writeto(path)


def write_columns(path: Path, flux: np.ndarray, ivar: np.ndarray) -> None:
    """A spectrum (7781,) as a table of text."""
    lines = [f"{w:.1f},{f:.6g},{i:.6g}" for w, f, i in zip(GRID, flux, ivar, strict=True)]
    path.write_text("wavelength,flux,ivar\n" + "\n".join(lines) + "\n")


def survey(folder: Path, n: int = 24, seed: int = 4) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Write n simulated galaxies as a user has them. Returns the rows of galaxies.csv, and the truth."""
    folder.mkdir(parents=True)
    truth = draw(seed, 0, n, SIDE)
    desi = list(range(0, n, 3))
    ids = [39_627_000_000_000_000 + number for number in range(n)]
    write_desi(
        folder / "coadd.fits",
        [ids[i] for i in desi],
        truth["spectrum"][desi].astype(np.float64),
        truth["ivar"][desi].astype(np.float64),
        masked=(100, 140),
    )
    rows = []
    for i in range(n):
        image = truth["image"][i].transpose(2, 1, 0)  # bands first, survey orientation
        name = f"cutout{i}" + (".fits", ".npy")[i % 2]
        if i % 2:
            np.save(folder / name, image)
        else:
            fits.PrimaryHDU(image[::-1], fits.Header({"BANDS": "zrg"})).writeto(folder / name)
        spectrum = (f"coadd.fits#{ids[i]}", f"spec{i}.fits", f"spec{i}.csv")[i % 3]
        if i % 3 == 1:
            write_sdss(folder / spectrum, truth["spectrum"][i], truth["ivar"][i])
        elif i % 3 == 2:
            write_columns(folder / spectrum, truth["spectrum"][i], truth["ivar"][i])
        row = {"name": f"G{i}", "targetid": ids[i], "RA": f"{truth['ra'][i]:.7f}", "DEC": f"{truth['dec'][i]:.7f}"}
        row |= {"kind": truth["label"][i], "cutout": name, "spectrum": spectrum}
        row |= {name: f"{truth[name][i]:.5f}" for name in ("redshift", "log_mass", "mag_g", "mag_r", "mag_z")}
        rows.append(row)
    save(folder / "galaxies.csv", rows)
    return rows, truth


def save(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as a table of text."""
    with path.open("w", newline="") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)
    return path
