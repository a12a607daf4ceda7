"""The modalities that are known by name, with the words for them. Whoever has to say one to people asks here.

A modality that is not registered works as well: its name then stands for itself everywhere.

    modality("photometry").plural                # "light curves"
    register(Modality("sound", plural="sounds"))
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Modality:
    """One kind of observation.

    name: the slot of its encoder. plural: in sentences. argument: of `embed` and `classify`. usage: how that is given,
    in an example. short: the mode that trains its encoder alone. tag: on the hub. file: of its encoder in an export.
    column: of our layout, null where an object lacks the modality. Empty ones are the name, but for usage.
    """

    name: str
    plural: str = ""
    argument: str = ""
    usage: str = ""
    short: str = ""
    tag: str = ""
    file: str = ""
    column: str = ""

    def __post_init__(self) -> None:
        for key in ("plural", "argument", "short", "tag", "file", "column"):
            if not getattr(self, key):
                object.__setattr__(self, key, self.name)


_MODALITIES: dict[str, Modality] = {}


def register(modality: Modality) -> Modality:
    """Make the words for a modality known."""
    _MODALITIES[modality.name] = modality
    return modality


def modality(name: str) -> Modality:
    """The modality of a name, with its name for every word where it is not registered."""
    return _MODALITIES.get(name, Modality(name))


def known() -> tuple[str, ...]:
    """Names of all registered modalities."""
    return tuple(_MODALITIES)


def of_argument(argument: str) -> str:
    """The modality that an argument of `embed` and `classify` is of."""
    for found in _MODALITIES.values():
        if found.argument == argument:
            return found.name
    return argument


def file_name(slot: str, name: str) -> str:
    """Of the encoder in a slot that reads the modality `name`: the modality's, where the slot is called as it is."""
    return modality(name).file if slot == name else slot


PHOTOMETRY = register(
    Modality(
        "photometry",
        plural="light curves",
        argument="light_curve",
        usage="light_curve=(time, flux, error)",
        short="photo",
        tag="light-curves",
        file="light_curve",
        column="light_curve",
    )
)
SPECTRA = register(
    Modality(
        "spectra",
        argument="spectrum",
        usage="spectrum=(wavelength, flux, ivar)",
        file="spectrum",
        column="spectrum",
    )
)
METADATA = register(
    Modality(
        "metadata",
        plural="catalogue values",
        usage="metadata={...}",
        short="meta",
        tag="catalogue",
        column="meta_cols",
    )
)
FEATURES = register(Modality("features", plural="features of light curves"))
IMAGES = register(Modality("images", usage="images=flux"))
