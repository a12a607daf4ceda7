"""The sections of an analysis report, in its order: name -> what makes it."""

from __future__ import annotations

from collections.abc import Callable

from astrom3.analyse import (
    ablation,
    attention,
    calibration,
    comparison,
    early,
    fewshot,
    outliers,
    panels,
    projection,
    properties,
    retrieval,
    sensitivity,
)
from astrom3.analyse.projection import UMAP
from astrom3.analyse.section import Context, Section

__all__ = ["SECTIONS", "UMAP"]

SECTIONS: dict[str, Callable[[Context], Section]] = {
    "fewshot": fewshot.section,
    "retrieval": retrieval.section,
    "ablation": ablation.section,
    "properties": properties.section,
    "outliers": outliers.section,
    "map": projection.section,
    "panels": panels.section,
    "calibration": calibration.section,
    "compare": comparison.section,
    "attention": attention.section,
    "sensitivity": sensitivity.section,
    "early": early.section,
}
