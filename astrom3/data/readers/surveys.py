"""Light curves in the columns of the big surveys: which columns, units, bands and flags they have.

`recognise(names)` finds a survey by the names of its columns. The schemas are the public ones: ZTF data releases (IRSA)
and alerts, ASAS-SN Sky Patrol 2, Gaia DR3 epoch photometry, CRTS DR2, Rubin (DP0.2, DP1), Kepler and TESS light-curve
files. A table of which the user names the columns is read as the user says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from astrom3.data.readers.systems import RELATIVE_ZERO_FLUX

AB = 3.631e6  # mJy of magnitude 0
# Zero points of Gaia's three bands in the Vega system [mJy], Riello et al. 2021 (A&A 649, A3) with the SVO's fluxes.
GAIA = {"G": 3.22875e6, "BP": 3.55201e6, "RP": 2.55495e6}
# Magnitude of one electron per second: Kepler Instrument Handbook (Kp 12 gives 1.74e5), TESS Instrument Handbook.
KEPLER_ZERO = 25.10
TESS_ZERO = 20.44
ANY = ""  # the zero point of bands that are not named


@dataclass(frozen=True)
class Flag:
    """Rows to keep: those whose column is below a number, equals a text, or is not true."""

    column: str
    below: float | None = None
    equals: str | None = None

    def __str__(self) -> str:
        if self.below is not None:
            return f"{self.column} >= {self.below:g}"
        return f"{self.column} other than {self.equals}" if self.equals is not None else self.column


@dataclass(frozen=True)
class Survey:
    """Columns in lower case. needs: all must be there. Of time and id the first that is there is taken. bands: the
    code in the table -> name. zero_points: mJy of magnitude 0 by band. flux_factor: flux unit in mJy."""

    name: str
    needs: tuple[str, ...]
    time: tuple[str, ...]
    time_zero: Mapping[str, str]
    id: tuple[str, ...] = ()
    mag: str | None = None
    mag_err: str | None = None
    flux: str | None = None
    flux_err: str | None = None
    band: str | None = None
    only_band: str | None = None
    bands: Mapping[str, str] = field(default_factory=dict)
    zero_points: Mapping[str, float] = field(default_factory=dict)
    flux_factor: float = 1.0
    unit: str = ""
    flags: tuple[Flag, ...] = ()
    note: str = ""

    @property
    def in_magnitudes(self) -> bool:
        """Whether the brightness is a magnitude; its error may still be that of the flux beside it."""
        return self.mag is not None

    def columns(self) -> tuple[str, ...]:
        """All columns that are read, where they are there."""
        optional = (self.mag, self.mag_err, self.flux, self.flux_err, self.band)
        return (*self.time, *(name for name in optional if name), *(flag.column for flag in self.flags))


ZTF_TIME = {"hjd": "HJD", "mjd": "MJD", "hmjd": "HMJD", "jd": "JD"}
ZTF_BANDS = {"1": "zg", "2": "zr", "3": "zi"}
SURVEYS = (
    Survey(
        "ZTF",
        ("mag", "magerr", "filtercode"),
        ("hjd", "mjd", "hmjd"),
        ZTF_TIME,
        ("oid",),
        "mag",
        "magerr",
        band="filtercode",
        zero_points={ANY: AB},
        unit="AB",
        flags=(Flag("catflags", below=32768),),
    ),
    Survey(
        "ZTF alerts (corrected)",
        ("magpsf_corr", "sigmapsf_corr", "fid"),
        ("jd", "mjd"),
        ZTF_TIME,
        ("objectid", "oid"),
        "magpsf_corr",
        "sigmapsf_corr",
        band="fid",
        bands=ZTF_BANDS,
        zero_points={ANY: AB},
        unit="AB",
    ),
    Survey(
        "ZTF alerts",
        ("magpsf", "sigmapsf", "fid"),
        ("jd", "mjd"),
        ZTF_TIME,
        ("objectid", "oid"),
        "magpsf",
        "sigmapsf",
        band="fid",
        bands=ZTF_BANDS,
        zero_points={ANY: AB},
        unit="AB",
        note="magpsf is that of the difference image, not of the star",
    ),
    Survey(
        "ASAS-SN",
        ("flux", "flux_err", "phot_filter"),
        ("hjd", "jd"),
        {"hjd": "HJD", "jd": "JD"},
        ("asas_sn_id", "asassn_name"),
        flux="flux",
        flux_err="flux_err",
        band="phot_filter",
        unit="mJy",
        flags=(Flag("flux_err", below=99.0), Flag("quality", equals="g")),
    ),
    Survey(
        "Gaia epoch photometry",
        ("band", "time", "mag", "flux", "flux_error"),
        ("time",),
        {"time": "BJD(TCB) - 2455197.5"},
        ("source_id",),
        mag="mag",
        flux="flux",
        flux_err="flux_error",
        band="band",
        zero_points=GAIA,
        unit="Vega",
        flags=(Flag("rejected_by_photometry"), Flag("rejected_by_variability")),
    ),
    Survey(
        "CRTS",
        ("mag", "magerr", "mjd", "blend"),
        ("mjd",),
        {"mjd": "MJD"},
        ("masterid", "inputid", "id"),
        "mag",
        "magerr",
        only_band="V",
        zero_points={ANY: 3.64e6},
        unit="V, Johnson zero point",
    ),
    Survey(
        "Rubin",
        ("psfflux", "psffluxerr", "band"),
        ("midpointmjdtai", "midpointtai", "expmidptmjd"),
        {"midpointmjdtai": "MJD(TAI)", "midpointtai": "MJD(TAI)", "expmidptmjd": "MJD(TAI)"},
        ("objectid", "diaobjectid"),
        flux="psfflux",
        flux_err="psffluxerr",
        band="band",
        flux_factor=1e-6,
        unit="nJy",
    ),
    Survey(
        "Kepler",
        ("time", "pdcsap_flux", "pdcsap_flux_err", "sap_quality"),
        ("time",),
        {"time": "BJD(TDB) - 2454833"},
        flux="pdcsap_flux",
        flux_err="pdcsap_flux_err",
        only_band="kepler",
        flux_factor=RELATIVE_ZERO_FLUX * 10 ** (-0.4 * KEPLER_ZERO),
        unit="electrons/s, as relative flux",
        flags=(Flag("sap_quality", below=1),),
    ),
    Survey(
        "TESS",
        ("time", "pdcsap_flux", "pdcsap_flux_err", "quality"),
        ("time",),
        {"time": "BJD(TDB) - 2457000"},
        flux="pdcsap_flux",
        flux_err="pdcsap_flux_err",
        only_band="tess",
        flux_factor=RELATIVE_ZERO_FLUX * 10 ** (-0.4 * TESS_ZERO),
        unit="electrons/s, as relative flux",
        flags=(Flag("quality", below=1),),
    ),
)
# OGLE's files have no names of columns: OGLE-BLG-RRLYR-00001.dat, in a folder I or V.
OGLE = Survey(
    "OGLE",
    ("0", "1", "2"),
    ("0",),
    {"0": "HJD, or HJD - 2450000"},
    (),
    "1",
    "2",
    only_band="I",
    zero_points={"I": 2.416e6, "V": 3.64e6},
    unit="Vega",
)
RELATIVE = ("Kepler", "TESS")  # whose fluxes are not calibrated


def recognise(names: Sequence[str], path: str = "") -> Survey | None:
    """The survey whose columns these are (any case); None where they are nobody's. `path` tells OGLE's files."""
    lower = {name.lower() for name in names}
    for survey in SURVEYS:
        if lower.issuperset(survey.needs) and not lower.isdisjoint(survey.time):
            return survey
    file = path.replace("\\", "/").rpartition("/")[2]
    if list(names) == ["0", "1", "2"] and file.upper().startswith("OGLE"):
        return OGLE
    return None


def describe(survey: Survey, names: Sequence[str]) -> str:
    """One sentence: what of a table is taken, in which units, from which zero point of time."""
    lower = {name.lower(): name for name in names}
    time = next(name for name in survey.time if name in lower)
    zero = survey.time_zero[time]
    if survey.in_magnitudes:
        brightness = f"magnitude {lower[survey.mag or '']}"
    else:
        brightness = f"flux {lower[survey.flux or '']}"

    error = lower.get(survey.mag_err or survey.flux_err or "", "")
    band = lower[survey.band] if survey.band else survey.only_band
    parts = [f"time {lower[time]} [day, {zero}]", f"{brightness} +- {error} ({survey.unit})", f"band {band}"]
    flags = [str(flag) for flag in survey.flags if flag.column in lower]
    if flags:
        parts.append(f"rows with {' or '.join(flags)} left out")
    if survey.note:
        parts.append(survey.note)
    return f"taken as light curves of {survey.name}: {', '.join(parts)}"
