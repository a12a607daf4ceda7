"""Convert your own observations to our parquet layout: python -m astrom3.convert table=stars.csv out=my_survey ...

All keys with their meaning are in conf/convert.yaml; the work is done in astrom3/convert/conversion.py.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from astrom3.places import expanded

log = logging.getLogger(__name__)


def convert(cfg: DictConfig) -> dict[str, Any]:
    """Write the data set at cfg.out; returns its summary. Use it with data=local data.path=<out>."""
    from astrom3.convert.conversion import convert_objects
    from astrom3.convert.inputs import inputs_of

    options: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    for key in ("table", "raw", "root", "out"):
        options[key] = at_home(options[key])
    options["match"]["table"] = at_home(options["match"]["table"])
    out = Path(options["out"])
    with inputs_of(options, out) as inputs:
        for sentence in inputs.sentences:
            log.info("%s", sentence)
        for sentence in inputs.warnings:
            log.warning("%s", sentence)
        root = convert_objects(
            inputs.objects,
            inputs.recipe,
            out,
            name=options["name"] or out.name,
            provenance={"converted": _given(options), **inputs.provenance},
            published=inputs.published,
            seeds=options["seeds"],
            fractions=options["split_fractions"],
            workers=options["workers"],
            overwrite=options["overwrite"],
        )

    summary = json.loads((root / "summary.json").read_text(encoding="utf-8"))
    report(root, summary)
    warn_of_rare_classes(root)
    return summary


def at_home(path: str | None) -> str | None:
    """A path with the home folder for ~."""
    return path and str(expanded(path))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Options without those that are null."""
    given = {}
    for key, value in options.items():
        own = _given(value) if isinstance(value, dict) else value
        if own not in (None, {}):
            given[key] = own
    return given


def warn_of_rare_classes(root: Path) -> None:
    """Name each class that a part of a split lacks; dataset.json lists them too."""
    from astrom3.data.rare import sentence
    from astrom3.files import read_json

    for entry in read_json(root / "dataset.json")["rare_classes"]:
        log.warning("%s", sentence(entry))


def report(root: Path, summary: dict[str, Any]) -> None:
    """Say what was written and what was not."""
    present = ", ".join(f"{n} with {what}" for what, n in summary["present"].items())
    log.info("%d of %d objects written to %s: %s", summary["objects"], summary["input_objects"], root, present)
    for decision, modalities in summary["decisions"].items():
        for modality, reasons in modalities.items():
            for reason, n in reasons.items():
                log.info("%s: %s, %s: %d", decision, modality, reason, n)

    covered = summary.get("spectrum_coverage")
    if covered is not None:
        log.info(
            "spectra cover %.0f %% of %s Angstrom in the median, %.0f %% at least; %d cover less than 90 %%",
            100 * covered["median"],
            covered.get("grid", "3850-8998"),
            100 * covered["lowest"],
            covered["below_0.9"],
        )

    log.info("each object is listed in %s; train with data=local data.path=%s", root / "rejected.csv", root)


def main() -> None:
    from astrom3.cli.verbs import run_verb

    run_verb("convert", convert)


if __name__ == "__main__":
    main()
