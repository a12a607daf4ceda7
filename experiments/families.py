"""Every encoder that can read a survey, in one table: python -m experiments.families [data=<folder>] [epochs=6]

Encoders of the three families as light-curve or spectrum network of mode=photo, spectra, all and clip, with the same
splits; parameters and time stand beside accuracy and macro-F1. Finished runs are not repeated. Then the contrastive
objective with half of the spectra and 30 % of the light curves absent, against complete data (simulated survey only).
Writes experiments/families/results.md and results.csv. A mode that a combination cannot have is named with the reason.
"""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

from astrom3.cli.config import compose
from astrom3.errors import UserError
from experiments.options import Whole, run_from_command_line

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "experiments" / "families"
PHOTOMETRY = {
    "Informer": [],
    "Astromer 1": ["model=astromer1"],
    "Astromer 2": ["model=astromer2"],
    "folded": ["recipe=survey"],
}
SPECTRA = {"GalSpecNet": [], "SpecFormer": ["encoder/spectra=astroclip-{size}"]}
ABSENT = ["data.missing_spectra=0.5", "data.missing_light_curves=0.3"]
COLUMNS = (
    "mode",
    "encoder",
    "parameters",
    "seconds",
    "accuracy",
    "macro_f1",
    "photometry",
    "spectra",
    "metadata",
    "mean",
    "note",
)


def combinations(size: str) -> list[tuple[str, str, list[str]]]:
    """Mode, name and overrides of every run."""
    chosen = []
    for name, own in PHOTOMETRY.items():
        chosen += [(mode, name, own) for mode in ("photo", "all", "clip")]
    for name, own in SPECTRA.items():
        given = [override.format(size=size) for override in own]
        modes = ("spectra", "all", "clip") if own else ("spectra",)
        chosen += [(mode, name, given) for mode in modes]
    chosen.append(("meta", "MLP", []))
    return chosen


def measured(mode: str, name: str, overrides: list[str], common: list[str], root: Path) -> dict[str, Any]:
    """One row, from row.json where it was made before."""
    folder = root / f"{name.replace(' ', '').replace(',', '-').lower()}-{mode}"
    kept = folder / "row.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    from astrom3.train import train

    row: dict[str, Any] = {"mode": mode, "encoder": name, "note": ""}
    start = time.monotonic()
    try:
        cfg = compose([f"mode={mode}", *overrides, *common, f"root={folder}"])
        scores = train(cfg)
    except UserError as error:
        return row | {"note": str(error)}
    row |= {"seconds": time.monotonic() - start, "parameters": parameters(Path(cfg.run))}
    row |= {key: scores[key] for key in ("accuracy", "macro_f1") if key in scores}
    row |= {key: value for key, value in scores.get("centroid_accuracy", {}).items() if key in COLUMNS}
    kept.write_text(json.dumps(row, indent=1) + "\n")
    return row


def parameters(run: Path) -> int:
    """Numbers that the network of a run learns."""
    import astrom3

    return sum(p.numel() for p in astrom3.load(run, device="cpu").network.parameters())


def cell(row: dict[str, Any], key: str) -> str:
    """A value as the table shows it."""
    value = row.get(key)
    if value is None:
        return "-"
    if key in ("parameters", "mode", "encoder", "note"):
        return f"{value:,}" if key == "parameters" else str(value)
    return f"{value:.0f}" if key == "seconds" else f"{100 * value:.1f}"


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown. Accuracies in %; those of a modality are of class centroids in its embeddings (mode=clip)."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(cell(row, key) for key in COLUMNS) + " |" for row in rows]
    return "\n".join(lines)


def write(rows: list[dict[str, Any]], title: str) -> str:
    """results.md and results.csv; the text of the first."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = f"# Families and modalities, {title}\n\n{table(rows)}\n"
    (FOLDER / "results.md").write_text(text)
    with open(FOLDER / "results.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return text


def run(options: dict[str, Any]) -> str:
    """Every run, one after the other; the table is written after each."""
    work = options["work"]
    size = options["size"]
    simulated = options["data"] == "simulated"
    survey = ["data=simulated", f"data.objects={options['objects']}"]
    data = survey if simulated else ["data=local", f"data.path={options['data']}"]
    common = [f"size={size}", f"epochs={options['epochs']}", f"seed={options['seed']}", "trainer=cpu", *data]
    common.append(f"data.cache={work}/store")
    rows = []
    title = f"{options['data']}, size={size}, {options['epochs']} epochs, seed {options['seed']}"
    for mode, name, overrides in combinations(size):
        rows.append(measured(mode, name, overrides, common, work))
        write(rows, title)
    if simulated:
        rows.append(measured("clip", "Informer, parts absent", ABSENT, common, work))
    return write(rows, title)


def main() -> None:
    defaults = {
        "data": "simulated",
        "objects": Whole(1000),
        "size": ("tiny", "small", "published"),
        "epochs": Whole(6),
        "seed": Whole(42, least=0, most=2**32 - 1),
        "work": ROOT / "runs" / "families",
    }
    run_from_command_line("families", defaults, run)


if __name__ == "__main__":
    main()
