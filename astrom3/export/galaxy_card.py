"""The card of a model of galaxies: what it embeds, data, training, use, limits, citation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from astrom3.encoders.aligned_towers import AlignedTowers
from astrom3.export.card import data, dataset, head, metrics, trained
from astrom3.export.onnx import Written
from astrom3.inference.trained import TrainedModel
from astrom3.published.astrom3 import count_parameters

KINDS = {"images": "images in g, r and z", "spectra": "spectra on DESI's grid"}
USE = {"images": "images=cutouts", "spectra": "spectra=flux"}
CITATION = """@article{parker2024astroclip,
  title = {AstroCLIP: a cross-modal foundation model for galaxies},
  author = {Parker, Liam and others},
  journal = {Monthly Notices of the Royal Astronomical Society},
  volume = {531},
  pages = {4990},
  year = {2024}
}"""


def card(
    model: TrainedModel, name: str, run: Mapping[str, Any], licence: str, base: str | None, files: Sequence[Written]
) -> str:
    """The text; arguments as of `card.card`, without ONNX files, which networks of galaxies do not have."""
    given = ", ".join(USE[modality] for modality in model.modalities)
    kinds = " and ".join(KINDS[modality] for modality in model.modalities)
    together = " in one space (contrastive objective)" if isinstance(model.network, AlignedTowers) else ""
    lines = [
        f"# {name}",
        "",
        f"Embeds {kinds} of galaxies{together}. {count_parameters(model.network):,} parameters; embeddings of "
        f"{model.width} numbers.",
        "",
        "## Data",
        "",
        *data(run),
        "",
        *trained(model, run),
        *(["## Metrics", "", *metrics(run), ""] if not isinstance(model.network, AlignedTowers) or not run else []),
        "## Use",
        "",
        "```python",
        "import astrom3",
        "",
        f'model = astrom3.load("{name}")',
        f"model.embed({given})",
        "```",
        "",
        "Images are flux (3, H, W) of g, r and z in nanomaggies at 0.262 arcsec a pixel, in the survey's orientation. "
        "Spectra are (wavelength, flux, ivar), files, or flux (7781,) on the grid 3600 + 0.8 i Angstrom.",
        "",
        "## Limits",
        "",
        *(f"- {line}" for line in limits(model, run)),
        "",
        "## Licence and citation",
        "",
        f"Licence: {licence}. Method: Parker et al. 2024, MNRAS 531, 4990.",
        "",
        "```bibtex",
        CITATION,
        "```",
        "",
    ]
    return head(model, name, run, licence, base) + "\n" + "\n".join(lines)


def limits(model: TrainedModel, run: Mapping[str, Any]) -> list[str]:
    """What a user should know before trusting the embeddings."""
    lines = []
    if dataset(run) == "simulated survey":
        lines.append("Trained on simulated data: for trying things out, not for science.")
    if "images" in model.modalities:
        lines.append("Images: depth, seeing and pixel scale as in the DESI Legacy Surveys.")
    if "spectra" in model.modalities:
        lines.append("Spectra: 3600 to 9824 Angstrom; those of other instruments are resampled, not matched in noise.")
    return lines
