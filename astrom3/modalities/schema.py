"""What the data are called: modalities, columns, classes, units, dtypes, our parquet layout and the batch.

Everything that names a column or a class imports it from here. Sources: Rizhko & Bloom 2024 (arXiv:2411.08842),
the ASAS-SN variable star catalogue (Jayasinghe et al. 2018, 2019), LAMOST low-resolution spectra.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

PREPROCESSING_VERSION = 2  # part of every store's key: raise it when any prepared number changes

MODALITIES = ("photometry", "spectra", "metadata")  # the order of the published model

# Label ids are positions in this tuple: alphabetical, as on the hub.
CLASSES = ("DSCT", "EA", "EB", "EW", "HADS", "M", "ROT", "RRAB", "RRC", "SR")
PAPER_ORDER = ("EW", "SR", "EA", "RRAB", "EB", "ROT", "RRC", "HADS", "M", "DSCT")  # for tables and plots
UNLABELLED = -1


def in_paper_order(classes: Iterable[str]) -> list[str]:
    """Classes of the paper as it lists them, then the others as they come."""
    return sorted(classes, key=lambda name: PAPER_ORDER.index(name) if name in PAPER_ORDER else len(PAPER_ORDER))


# Four features of the light curve [mag, day, -, -] ...
PHOTO_COLS = ("amplitude", "period", "lksl_statistic", "rfr_score")
# ... and 34 catalogue columns [mag, mas, mas/yr, degree], in the order of the published networks.
META_COLS = (
    "mean_vmag",
    "phot_g_mean_mag",
    "e_phot_g_mean_mag",
    "phot_bp_mean_mag",
    "e_phot_bp_mean_mag",
    "phot_rp_mean_mag",
    "e_phot_rp_mean_mag",
    "bp_rp",
    "parallax",
    "parallax_error",
    "parallax_over_error",
    "pmra",
    "pmra_error",
    "pmdec",
    "pmdec_error",
    "j_mag",
    "e_j_mag",
    "h_mag",
    "e_h_mag",
    "k_mag",
    "e_k_mag",
    "w1_mag",
    "e_w1_mag",
    "w2_mag",
    "e_w2_mag",
    "w3_mag",
    "w4_mag",
    "j_k",
    "w1_w2",
    "w3_w4",
    "pm",
    "ruwe",
    "l",
    "b",
)
ALL_COLS = PHOTO_COLS + META_COLS  # 38, the order of `mean` and `std` in the raw data set's info.json

# Transforms before the z-score (metadata_func in info.json).
ABS_COLS = (
    "mean_vmag",
    "phot_g_mean_mag",
    "phot_bp_mean_mag",
    "phot_rp_mean_mag",
    "j_mag",
    "h_mag",
    "k_mag",
    "w1_mag",
    "w2_mag",
    "w3_mag",
    "w4_mag",
)
COS_COLS = ("l",)
SIN_COLS = ("b",)
LOG_COLS = ("period",)

# Units of ALL_COLS and of the coordinates that stand in for l and b, as catalogues give them; "" for pure numbers.
COLUMN_UNITS = dict.fromkeys(ALL_COLS, "mag") | dict.fromkeys(("l", "b", "ra", "dec"), "deg")
COLUMN_UNITS |= {name: "mas/yr" for name in META_COLS if name.startswith("pm")}
COLUMN_UNITS |= {name: "mas" for name in META_COLS if name.startswith("parallax")}
COLUMN_UNITS |= dict.fromkeys(("parallax_over_error", "ruwe", "lksl_statistic", "rfr_score"), "") | {"period": "day"}

SUBS = ("full", "sub50", "sub25", "sub10")
SUB_FRACTION = {
    "full": 1,
    "sub50": 2,
    "sub25": 4,
    "sub10": 10,
}  # a subset aims at n / this number of objects
SEEDS = (42, 0, 66, 12, 123)
SPLITS = ("train", "validation", "test")

# Model inputs.
SEQ_LEN = 200  # points of a light curve that reach the network
PHOTO_CHANNELS = 9  # time, flux, flux error, then PHOTO_COLS, log10(MAD), span
WAVELENGTH_START = 3850.0  # Angstrom: 3850, 3852 ... 8998
WAVELENGTH_STEP = 2.0
WAVELENGTH_COUNT = 2575
SPECTRUM_CHANNELS = 3  # flux, third column (LAMOST inverse variance), log10(MAD)

# Our own parquet layout ("astrom3"): objects/*.parquet hold every object once, splits/{sub}_{seed}.parquet say who
# is in which split, dataset.json says what it is. Raw observations, never normalised:
#   time [day, HJD or any zero point]  float64 (float32, as in the hub's first layout, has steps of 0.25 d at 2457000)
#   flux, flux_err [mJy]               float64
#   wavelength [Angstrom, vacuum]      float64; flux [any]; ivar [1/flux^2], LAMOST inverse variance: float32
#   photo_cols, meta_cols              struct of float64, null where unknown
# A null struct is a missing modality; a null label is an unlabelled object.
LIGHT_CURVE_TYPE = pa.struct(
    [("time", pa.list_(pa.float64())), ("flux", pa.list_(pa.float64())), ("flux_err", pa.list_(pa.float64()))]
)
SPECTRUM_TYPE = pa.struct(
    [("wavelength", pa.list_(pa.float64())), ("flux", pa.list_(pa.float32())), ("ivar", pa.list_(pa.float32()))]
)
OBJECT_SCHEMA = pa.schema(
    [
        ("object_id", pa.string()),
        ("label", pa.string()),
        ("light_curve", LIGHT_CURVE_TYPE),
        ("spectrum", SPECTRUM_TYPE),
        ("photo_cols", pa.struct([(c, pa.float64()) for c in PHOTO_COLS])),
        ("meta_cols", pa.struct([(c, pa.float64()) for c in META_COLS])),
    ]
)


def object_schema(targets: Iterable[str] = (), bands: bool = False) -> pa.Schema:
    """OBJECT_SCHEMA, with a struct column `targets` of float64, null where unknown, where a survey has numbers to
    predict. bands: the light curve has a fourth list, the name of each point's band."""
    names = list(targets)
    schema = OBJECT_SCHEMA
    if bands:
        place = schema.get_field_index("light_curve")
        kind = pa.struct([*LIGHT_CURVE_TYPE, ("band", pa.list_(pa.string()))])
        schema = schema.set(place, pa.field("light_curve", kind))
    if not names:
        return schema
    return schema.append(pa.field("targets", pa.struct([(name, pa.float64()) for name in names])))


SPLIT_SCHEMA = pa.schema([("object_id", pa.string()), ("split", pa.string())])

# The batch, the one dict that data loaders give and models take (B objects; absent modalities are zeros):
#   index       int64   (B,)             row of the object in its split's list of ids
#   label       int64   (B,)             class id, UNLABELLED where there is none
#   target      float32 (B, T)           numbers to predict, NaN where unknown; only where targets are asked for
#   photometry  float32 (B, 200, 9)      see PHOTO_CHANNELS; time in [0, 1] over the whole curve
#   mask        float32 (B, 200)         1 for a point, 0 for padding
#   spectra     float32 (B, 3, 2575)     see SPECTRUM_CHANNELS
#   metadata    float32 (B, 34)          META_COLS, z-scored
#   present     dict modality -> bool (B,)
# A loader made for some modalities gives only their keys. `mask` comes with photometry.
