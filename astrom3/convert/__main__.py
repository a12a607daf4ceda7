"""Convert your own observations to our parquet layout: python -m astrom3.convert table=stars.csv out=my_survey ...

All keys with their meaning are in conf/convert.yaml; the work is done in astrom3/convert/conversion.py.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

log = logging.getLogger(__name__)
PROBES = 5  # light curves that are tried to find their unit


def convert(cfg: DictConfig) -> dict[str, Any]:
    """Write the data set at cfg.out; returns its summary. Use it with data=local data.path=<out>."""
    from astrom3.convert.conversion import Recipe, convert_objects, read_raw
    from astrom3.data.readers.auto import LightCurveReader, SpectrumReader
    from astrom3.data.readers.nested import NestedReader, is_nested
    from astrom3.data.readers.objects import read_objects
    from astrom3.data.readers.systems import RELATIVE_MEANS, RELATIVE_UNIT
    from astrom3.data.readers.tables import LightCurveColumns, SpectrumColumns
    from astrom3.errors import UserError

    options: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    for key in ("table", "raw", "root", "out"):
        options[key] = options[key] and str(Path(options[key]).expanduser())
    if (options["table"] is None) == (options["raw"] is None):
        raise UserError("give either table=<file with one row per object> or raw=<folder of AstroM3Dataset>.")
    light_curves, spectra = options["light_curves"], options["spectra"]
    if options["raw"] is not None:
        surplus = [
            k
            for k in ("label", "light_curve", "spectrum", "labels", "classes", "targets", "band")
            if options[k] is not None
        ]
        if surplus:
            raise UserError(f"{surplus[0]} is for table=...; the files of AstroM3Dataset (raw=...) say it themselves.")
        objects, recipe, published = read_raw(options["raw"], options["features"])
    else:
        keys = ("id", "label", "light_curve", "spectrum", "root", "columns", "labels", "classes", "unknown", "targets")
        nested = options["light_curve"] is None and is_nested(options["table"], light_curves["columns"])
        objects, published = read_objects(options["table"], **{k: options[k] for k in keys}, nested=nested), None
        columns = {k: light_curves[k] for k in ("time_offset", "flux_unit", "zero_point", "system")}
        curve_columns = LightCurveColumns(**light_curves["columns"], **columns)
        spectrum_columns = SpectrumColumns(
            **spectra["columns"], wavelength_unit=spectra["wavelength_unit"], air=spectra["air"]
        )
        reader: Any = LightCurveReader(light_curves["format"], light_curves["band"], curve_columns)
        recipe = Recipe(
            NestedReader(Path(options["table"]), curve_columns) if nested else reader,
            SpectrumReader(spectra["format"], spectrum_columns),
            options["features"],
        )
    provenance: dict[str, Any] = {"converted": _given(options)}
    if is_relative(recipe.read_light_curve, objects.light_curves):
        provenance["flux_unit"] = RELATIVE_UNIT
        log.warning("%s", RELATIVE_MEANS)
    out = Path(options["out"])
    root = convert_objects(
        objects, recipe, out, name=options["name"] or out.name, provenance=provenance,
        published=published, seeds=options["seeds"], fractions=options["split_fractions"], workers=options["workers"],
        overwrite=options["overwrite"],
    )  # fmt: skip
    summary = json.loads((root / "summary.json").read_text(encoding="utf-8"))
    report(root, summary)
    return summary


def is_relative(reader: Any, references: Sequence[Any]) -> bool:
    """Whether light curves are in magnitudes without a zero point, by the first one that can be read."""
    from astrom3.data.readers import ReadError

    if not hasattr(reader, "relative"):
        return False  # the files of AstroM3Dataset, in mJy
    for reference in [reference for reference in references if reference is not None][:PROBES]:
        try:
            return reader.relative(reference)
        except ReadError:
            continue
    return False


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Options without those that are null."""
    nested = {k: _given(v) if isinstance(v, dict) else v for k, v in options.items()}
    return {k: v for k, v in nested.items() if v not in (None, {})}


def report(root: Path, summary: dict[str, Any]) -> None:
    """Say what was written and what was not."""
    present = ", ".join(f"{n} with {what}" for what, n in summary["present"].items())
    log.info("%d of %d objects written to %s: %s", summary["objects"], summary["input_objects"], root, present)
    for decision, modalities in summary["decisions"].items():
        for modality, reasons in modalities.items():
            for reason, n in reasons.items():
                log.info("%s: %s, %s: %d", decision, modality, reason, n)
    log.info("each object is listed in %s; train with data=local data.path=%s", root / "rejected.csv", root)


def main() -> None:
    from astrom3.cli.verbs import run_verb

    run_verb("convert", convert)


if __name__ == "__main__":
    main()
