"""What a model card says of each family: the paper, how to cite it, and the limits of its networks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from astrom3.encoders.astromer import Astromer
from astrom3.encoders.galspecnet import GalSpecNet
from astrom3.encoders.informer import InformerEncoder
from astrom3.encoders.mlp import MetadataMLP
from astrom3.encoders.specformer import SpecFormer
from astrom3.encoders.vit import VisionTransformer


@dataclass(frozen=True)
class Family:
    """name, classes of its encoders, what its objects are called, the method in one line, BibTeX entry and limits."""

    name: str
    encoders: tuple[type[nn.Module], ...]
    objects: str
    tag: str
    method: str
    citation: str
    limits: tuple[str, ...] = ()


ASTROM3 = Family(
    name="AstroM3",
    encoders=(InformerEncoder, GalSpecNet, MetadataMLP),
    objects="variable stars",
    tag="variable-stars",
    method="Rizhko & Bloom 2024, arXiv:2411.08842",
    citation="""@article{rizhko2024astrom3,
  title = {AstroM$^3$: A self-supervised multimodal model for astronomy},
  author = {Rizhko, Mariia and Bloom, Joshua S.},
  journal = {arXiv preprint arXiv:2411.08842},
  year = {2024}
}""",
)
ASTROMER = Family(
    name="ASTROMER",
    encoders=(Astromer,),
    objects="variable stars",
    tag="variable-stars",
    method="Donoso-Oliva et al. 2023, A&A 670, A54, and 2026, A&A 707, A170",
    citation="""@article{donosooliva2023astromer,
  title = {ASTROMER: A transformer-based embedding for the representation of light curves},
  author = {Donoso-Oliva, C. and others},
  journal = {Astronomy \\& Astrophysics},
  volume = {670},
  pages = {A54},
  year = {2023}
}""",
    limits=("Light curves of one band, in windows of consecutive points; at least five points are needed.",),
)
ASTROCLIP = Family(
    name="AstroCLIP",
    encoders=(SpecFormer, VisionTransformer),
    objects="galaxies",
    tag="galaxies",
    method="Parker et al. 2024, MNRAS 531, 4990, arXiv:2310.03024",
    citation="""@article{parker2024astroclip,
  title = {AstroCLIP: a cross-modal foundation model for galaxies},
  author = {Parker, Liam and others},
  journal = {Monthly Notices of the Royal Astronomical Society},
  volume = {531},
  pages = {4990},
  year = {2024}
}""",
    limits=(
        "Images: g, r, z in nanomaggies at the pixel scale of the Legacy Surveys (0.262 arcsec), 152 pixels wide.",
        "Spectra: the DESI grid of 7781 pixels, 3600 to 9824 Angstrom; others are resampled to it.",
    ),
)
FAMILIES = (ASTROM3, ASTROMER, ASTROCLIP)


def families_of(network: nn.Module) -> list[Family]:
    """The families whose encoders are in a network, in the order of FAMILIES; AstroM3, whose house this is, if none."""
    found = []
    for family in FAMILIES:
        if any(isinstance(module, family.encoders) for module in network.modules()):
            found.append(family)
    return found or [ASTROM3]
