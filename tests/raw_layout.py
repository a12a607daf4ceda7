"""A small folder of raw AstroM3Dataset files, and LAMOST files, for tests."""

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from data_files import members, values_of

from astrom3.data.splits import make_splits
from astrom3.modalities.catalogue import Normaliser
from astrom3.modalities.schema import ALL_COLS, CLASSES, META_COLS, PHOTO_COLS

# The column order of the CSVs on the hub: photo_cols among the others, l and b at the end.
CSV_COLUMNS = (
    "mean_vmag", "amplitude", "period", "phot_g_mean_mag", "e_phot_g_mean_mag", "lksl_statistic", "rfr_score",
    *(c for c in META_COLS if c not in ("mean_vmag", "phot_g_mean_mag", "e_phot_g_mean_mag", "l", "b")),
    "id", "target", "name", "spec_filename", "l", "b",
)  # fmt: skip
SPLIT_FILES = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}


def lamost_arrays(rng, pixels=3909):
    """Wavelength, flux, inverse variance of a plausible spectrum, float32."""
    wavelength = 10 ** (3.5682 + 1e-4 * np.arange(pixels))
    flux = 1000 * (1 + 0.3 * np.sin(wavelength / 700)) + rng.normal(0, 20, pixels)
    return wavelength.astype(np.float32), flux.astype(np.float32), np.full(pixels, 2.5e-3, np.float32)


def lamost_bytes(wavelength, flux, ivar, layout="image"):
    """A LAMOST file: layout "image" (DR7 and before), "coefficients" (no wavelength row) or "table" (DR8 and after)."""
    if layout == "table":
        columns = [fits.Column(n, f"{len(flux)}E", array=a[None]) for n, a in
                   (("FLUX", flux), ("IVAR", ivar), ("WAVELENGTH", wavelength), ("ANDMASK", 0 * flux))]  # fmt: skip
        hdus = [fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="COADD")]
    else:
        rows = [flux, ivar] if layout == "coefficients" else [flux, ivar, wavelength, 0 * flux, 0 * flux]
        hdus = [fits.PrimaryHDU(np.stack(rows).astype(np.float32))]
        hdus[0].header["COEFF0"], hdus[0].header["COEFF1"] = 3.5682, 1e-4
    file = io.BytesIO()
    fits.HDUList(hdus).writeto(file)
    return file.getvalue()


def dat_text(time, flux, flux_err):
    """A vardb_files/<name>.dat: two header rows, whitespace columns."""
    lines = ["ASAS-SN variable star light curve", "HJD MAG MAG_ERR FLUX FLUX_ERR"]
    for t, f, e in zip(time, flux, flux_err, strict=True):
        magnitude = -2.5 * np.log10(max(f, 1e-3) / 3.836e6)
        lines.append(f"{t:.5f}  {magnitude:.3f}  {1.086 * e / max(f, 1e-3):.3f}  {f:.4f}  {e:.4f}")
    return "\n".join(lines) + "\n"


def build_raw(
    root: Path, n: int = 40, classes=("EW", "RRAB"), subs=("full", "sub10"), seeds=(42,), seed: int = 0, zipped=True
) -> list[dict]:
    """Write n objects in the raw layout under root; returns them, in order, with arrays and catalogue values."""
    rng = np.random.default_rng(seed)
    objects = []
    for i in range(n):
        points = int(rng.integers(30, 300))
        time = np.sort(rng.uniform(2457000, 2458500, points)).round(5)
        flux = (10 + 2 * np.sin(2 * np.pi * time / 0.6) + rng.normal(0, 0.2, points)).round(4)
        values = {c: float(v) for c, v in zip(ALL_COLS, rng.uniform(0.1, 15, len(ALL_COLS)), strict=True)}
        objects.append({
            "id": f"EDR3 {10**17 + i}", "target": classes[i % len(classes)], "name": f"ASASSN-VJ{i:06d}.00+000000.0",
            "spec_filename": f"spec-57813-TEST_sp01-{i:03d}.fits.gz", "values": values,
            "light_curve": (time, flux, np.full(points, 0.2)), "spectrum": lamost_arrays(rng),
        })  # fmt: skip
    _write_files(root, objects, zipped)
    labels = [o["target"] for o in objects]
    for sub in subs:
        for split_seed in seeds:
            _write_splits(
                root / "splits" / sub / str(split_seed), objects, make_splits(labels, sub, split_seed), classes
            )
    return objects


def write_raw(root: Path, rows: list[dict]) -> Path:
    """Write rows of the data set schema in the raw layout, full_42, with the split of data_files.members."""
    objects = []
    for i, (row, values) in enumerate(zip(rows, values_of(rows), strict=True)):
        curve = row["light_curve"]
        spectrum = row["spectrum"]
        objects.append(
            {
                "id": row["object_id"],
                "target": row["label"],
                "name": f"ASASSN-VJ{i:06d}.00+000000.0" if curve else "",
                "spec_filename": f"spec-57813-TEST_sp01-{i:03d}.fits.gz" if spectrum else "",
                "values": dict(zip(ALL_COLS, values.tolist(), strict=True)),
                "light_curve": tuple(curve.values()) if curve else None,
                "spectrum": tuple(np.asarray(column, np.float32) for column in spectrum.values()) if spectrum else None,
            }
        )
    _write_files(root, objects, zipped=True)
    split_of = {}
    for split, ids in members(rows).items():
        split_of |= dict.fromkeys(ids, split)
    names = np.array([split_of[row["object_id"]] for row in rows])
    _write_splits(root / "splits" / "full" / "42", objects, names, CLASSES)
    return root


def _write_files(root, objects, zipped):
    """Light curves and spectra of the objects that have them."""
    root.mkdir(parents=True, exist_ok=True)
    dats = {f"vardb_files/{o['name']}.dat": dat_text(*o["light_curve"]) for o in objects if o["name"]}
    if zipped:
        with zipfile.ZipFile(root / "photometry.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in dats.items():
                archive.writestr(name, text)
    else:
        (root / "vardb_files").mkdir()
        for name, text in dats.items():
            (root / name).write_text(text)
    for o in objects:
        if not o["spec_filename"]:
            continue
        folder = root / "spectra" / o["target"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / o["spec_filename"]).write_bytes(gzip.compress(lamost_bytes(*o["spectrum"]), 1))


def _write_splits(folder, objects, names, classes):
    folder.mkdir(parents=True)
    for split, file_name in SPLIT_FILES.items():
        with (folder / file_name).open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(CSV_COLUMNS)
            for o, where in zip(objects, names, strict=True):
                if where == split:
                    rows.writerow([o[c] if c in o else repr(o["values"][c]) for c in CSV_COLUMNS])
    values = np.array([[o["values"][c] for c in ALL_COLS] for o in objects])
    info = Normaliser.fit(values[names == "train"]).to_dict()
    info |= {"classes": list(classes), "photo_cols": list(PHOTO_COLS), "meta_cols": list(META_COLS)}
    (folder / "info.json").write_text(json.dumps(info))
