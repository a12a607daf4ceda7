"""The tables of the experiment, beside the published numbers (Parker et al. 2024, as summarised by the project)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.astroclip.settings import PROPERTIES, TARGETS

# R2 of redshift, mean R2 of the four properties: zero-shot from embeddings, or supervised. Accuracy on morphology.
PUBLISHED: dict[str, tuple[float, float, float | None]] = {
    "image, AstroCLIP": (0.79, 0.47, 0.76),
    "image, image encoder": (0.63, 0.37, 0.78),
    "spectrum, AstroCLIP": (0.99, 0.63, None),
    "spectrum, spectrum encoder": (0.99, 0.64, None),
    "image, ResNet18, supervised": (0.77, 0.43, None),
    "spectrum, Conv+Att, supervised": (0.99, 0.60, None),
    "photometry, MLP, supervised": (0.68, 0.42, None),
}
NONE = (None, None, None)
# ZooBot, supervised (Walmsley et al. 2022): accuracy and F1 by question, on real galaxies.
ZOOBOT = {
    "smooth": (0.94, 0.94),
    "disk-edge-on": (0.99, 0.99),
    "spiral-arms": (0.93, 0.94),
    "bar": (0.82, 0.81),
    "spiral-winding": (0.78, 0.79),
    "spiral-arm-count": (0.77, 0.76),
    "bulge-size": (0.84, 0.84),
    "how-rounded": (0.93, 0.93),
    "edge-on-bulge": (0.91, 0.90),
    "merging": (0.88, 0.85),
}


def markdown(found: Mapping[str, Any]) -> str:
    """results.md of what was computed."""
    parts = [heading(found)]
    if found.get("properties") or found.get("baselines"):
        parts += [r2_table(found), by_target(found), redshift_table(found)]
    if found.get("posterior"):
        parts.append(posterior_table(found["posterior"]))
    if found.get("morphology"):
        parts.append(morphology_table(found["morphology"]))
    return "\n".join(parts)


def heading(found: Mapping[str, Any]) -> str:
    simulated = "simulated galaxies" if found["simulated"] else "galaxies"
    counts = ", ".join(f"{split} {n}" for split, n in found["counts"].items())
    return (
        "# Galaxies from embeddings\n\n"
        f"{found['objects']} {simulated} ({counts}), networks of size={found['size']}. The published numbers are of "
        "real galaxies, networks of 370 million parameters and 20 GPUs: they stand beside ours for orientation, they "
        "are no comparison.\n"
    )


def rows_of(found: Mapping[str, Any]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Source -> protocol -> scores."""
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, protocols in found.get("properties", {}).items():
        rows[name] = dict(protocols)
    for name, scores in found.get("baselines", {}).items():
        rows[name] = {"supervised": scores}
    return rows


def r2_table(found: Mapping[str, Any]) -> str:
    head = ["source", "protocol", "redshift", "published", "properties", "published"]
    lines = table_head("R2 on the test split", head)
    for name, protocols in rows_of(found).items():
        published = PUBLISHED.get(name, NONE)
        for protocol, scores in protocols.items():
            known = published if protocol != "few-shot" else NONE
            cells = [name, protocol, scores["r2"]["redshift"], known[0], mean(scores["r2"]), known[1]]
            lines.append(row(cells))
    return "\n".join(lines) + "\n"


def by_target(found: Mapping[str, Any]) -> str:
    lines = table_head("R2 by target", ["source", "protocol", *TARGETS])
    for name, protocols in rows_of(found).items():
        for protocol, scores in protocols.items():
            lines.append(row([name, protocol, *(scores["r2"][target] for target in TARGETS)]))
    return "\n".join(lines) + "\n"


def redshift_table(found: Mapping[str, Any]) -> str:
    title = "Redshift: dz / (1 + z); scatter is 1.4826 MAD, outliers are beyond 0.15"
    lines = table_head(title, ["source", "protocol", "bias", "scatter", "outliers"])
    for name, protocols in rows_of(found).items():
        for protocol, scores in protocols.items():
            z = scores["redshift"]
            lines.append(f"| {name} | {protocol} | {z['bias']:.4f} | {z['scatter']:.4f} | {z['outliers']:.1%} |")
    return "\n".join(lines) + "\n"


def posterior_table(found: Mapping[str, Any]) -> str:
    title = "Posteriors by spline flows: mean negative log-likelihood (of the mixture; of the flows), and CRPS"
    head = ["source", "NLL, redshift", "of flows", "NLL, properties", "of flows", *(f"CRPS, {t}" for t in TARGETS)]
    lines = table_head(title, head)
    for name, groups in found.items():
        cells: list[Any] = [name]
        for group in ("redshift", "properties"):
            cells += [groups[group]["nll"], "{:.2f} ± {:.2f}".format(*groups[group]["nll_of_flows"])]
        scores = {target: value for group in groups.values() for target, value in group["crps"].items()}
        lines.append(row([*cells, *(f"{scores[target]:.3f}" for target in TARGETS)]))
    return "\n".join(lines) + "\n"


def morphology_table(found: Mapping[str, Any]) -> str:
    names = list(found)
    questions = list(found[names[0]])
    title = "Morphology: accuracy / F1 by question of the Galaxy Zoo tree, beside the share of the most frequent answer"
    lines = table_head(title, ["question", "n", "most frequent", *names, "ZooBot, published"])
    for question in questions:
        first = found[names[0]][question]
        scores = [f"{found[name][question]['accuracy']:.2f} / {found[name][question]['f1']:.2f}" for name in names]
        zoobot = "{:.2f} / {:.2f}".format(*ZOOBOT[question]) if question in ZOOBOT else "-"
        lines.append(row([question, str(first["n"]), first["most frequent"], *scores, zoobot]))
    means = [float(np.mean([part["accuracy"] for part in found[name].values()])) for name in names]
    usual = float(np.mean([part["most frequent"] for part in found[names[0]].values()]))
    lines.append(row(["mean", "", usual, *(f"{value:.2f}" for value in means), ""]))
    known = [PUBLISHED.get(name, NONE)[2] for name in names]
    lines.append(row(["published mean (real galaxies)", "", None, *known, 0.88]))
    return "\n".join(lines) + "\n"


def table_head(title: str, columns: list[str]) -> list[str]:
    return [f"## {title}", "", "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]


def row(cells: list[Any]) -> str:
    return "| " + " | ".join(cell if isinstance(cell, str) else number(cell) for cell in cells) + " |"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def mean(r2: Mapping[str, float]) -> float:
    """Mean R2 of the four properties."""
    return float(np.mean([r2[name] for name in PROPERTIES]))
