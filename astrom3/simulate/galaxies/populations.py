"""Who is in the simulated galaxy survey: redshift, mass, star-formation history, dust, structure and morphology.

Galaxies are drawn from a mass function in the volume that a limit in r lets the survey see, like the bright galaxy
survey of DESI. Sources: mass function Baldry et al. 2012; share of quiescent galaxies Peng et al. 2010; mass and
metallicity Gallazzi et al. 2005 and Tremonti et al. 2004; sizes Shen et al. 2003 and van der Wel et al. 2014; dust
Calzetti et al. 2000 and Garn & Best 2010; rotation and velocity dispersion Reyes et al. 2011 and Hyde & Bernardi
2009; shares of types Nair & Abraham 2010. Flat universe, H0 = 70 km/s/Mpc, matter density 0.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from astrom3.simulate.galaxies.stellar import AGES, LIGHT_SPEED, library

MORPHOLOGIES = ("barred_spiral", "edge_on", "elliptical", "irregular", "lenticular", "merger", "spiral")  # by label id
HUBBLE = 70.0  # [km/s/Mpc]
MATTER = 0.3
REDSHIFTS = (0.008, 0.6)
MASSES = (7.8, 11.9)  # log10 of solar masses
HUBBLE_TIME = 977.8 / HUBBLE  # [Gyr]
AGE_EDGES = np.concatenate([[0], np.sqrt(AGES[1:] * AGES[:-1]), [14.0]])  # of the bins of AGES [Gyr]
YOUNG = 0.1  # [Gyr], younger stars lie in the clumps and arms
ARMED = ("barred_spiral", "merger", "spiral")
ARM_NUMBERS = (0.06, 0.56, 0.18, 0.12, 0.08)  # shares of galaxies with 1, 2, 3, ... arms
CLUMPY = 22  # star-forming regions; a galaxy with fewer looks clumpy
# Scatter at a mass [dex]. With less, magnitudes tell metallicity and star formation as well as spectra do, which is not
# so in nature; experiments/LOG.md of 2026-11-29 has what each modality tells.
METAL_SCATTER = 0.24
DUST_SCATTER = 0.22
FASTEST_DECLINE = -12.6  # log10 of the specific star-formation rate [1/yr], where gas still trickles in


@dataclass(frozen=True)
class Properties:
    """True properties of one galaxy."""

    redshift: float
    log_mass: float  # of living stars and remnants [log10 M_sun]
    log_ssfr: float  # star-formation rate of the last 100 Myr over mass [log10 1/yr]
    metallicity: float  # of the stars, log10(Z / Z_sun)
    age: float  # weighted by mass formed [Gyr]
    morphology: str
    formed: np.ndarray  # mass formed in each bin of AGES [M_sun], float64 (ages,)
    bulge_share: float  # of the mass, its oldest stars
    dust: float  # A_V [mag] of the disc towards us
    radius: float  # half-mass radius of disc, or of the bulge where there is no disc [kpc]
    bulge_radius: float  # [kpc]
    inclination: float  # cosine, 1 is face-on
    gas_metallicity: float  # 12 + log10(O/H)
    nucleus: float  # luminosity of an active nucleus in [O III] 5008 [L_sun], 0 for most
    dispersion: float  # of the stars of the bulge [km/s]
    rotation: float  # of the disc [km/s]
    arms: int  # number of spiral arms, 0 where there are none
    pitch: float  # angle between arms and circles [degree], 0 where there are no arms
    clumps: int  # number of regions that hold the light of the youngest stars, few of them where it is clumpy


@cache
def _distances() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Redshift, comoving distance [Mpc] and age of the universe [Gyr], each (n,), on a grid."""
    redshift = np.linspace(0, 1.0, 4001)
    expansion = np.sqrt(MATTER * (1 + redshift) ** 3 + 1 - MATTER)
    steps = np.diff(redshift) * 0.5 * (1 / expansion[1:] + 1 / expansion[:-1])
    comoving = LIGHT_SPEED / HUBBLE * np.concatenate([[0], np.cumsum(steps)])
    dark = np.sqrt((1 - MATTER) / MATTER) * (1 + redshift) ** -1.5
    age = HUBBLE_TIME * 2 / (3 * np.sqrt(1 - MATTER)) * np.arcsinh(dark)
    return redshift, comoving, age


def luminosity_distance(redshift: float) -> float:
    """In Mpc."""
    grid, comoving, _ = _distances()
    return float(np.interp(redshift, grid, comoving) * (1 + redshift))


def universe_age(redshift: float) -> float:
    """In Gyr."""
    grid, _, age = _distances()
    return float(np.interp(redshift, grid, age))


def kiloparsec_per_arcsec(redshift: float) -> float:
    """Length that is seen under an angle of one arcsecond; a radian has 648000 / pi of them."""
    angular_distance = luminosity_distance(redshift) * 1000 / (1 + redshift) ** 2  # [kpc]
    return angular_distance * np.pi / 648000


@cache
def _mass_function() -> tuple[np.ndarray, np.ndarray]:
    """Log masses and the number density of galaxies at them, both (n,); double Schechter function."""
    log_mass = np.linspace(*MASSES, 400)
    x = 10 ** (log_mass - 10.66)  # mass over the characteristic mass
    density = np.exp(-x) * (3.96 * x**0.65 + 0.79 * x**-0.47)
    return log_mass, density


@cache
def _seen(limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Redshifts and the cumulative share of galaxies that may be brighter than `limit` in r, both (n,)."""
    log_mass, density = _mass_function()
    redshift = np.linspace(*REDSHIFTS, 300)
    comoving = np.array([luminosity_distance(z) / (1 + z) for z in redshift])
    volume = comoving**2 * np.gradient(comoving)
    number = np.array([density[log_mass > _least_mass(z, limit)].sum() for z in redshift])
    share = np.cumsum(volume * number)
    return redshift, share / share[-1]


def _least_mass(redshift: float, limit: float) -> float:
    """Log mass of the lightest galaxy that reaches the limit: blue, with a mass-to-light ratio of about 0.25 in r."""
    modulus = 5 * np.log10(luminosity_distance(redshift)) + 25
    absolute = limit - modulus
    return 0.4 * (4.65 - absolute) - 0.55


def _redshift_and_mass(rng: np.random.Generator, limit: float) -> tuple[float, float]:
    """Redshift and log mass of one galaxy that may be brighter than `limit` in r."""
    redshifts, share = _seen(limit)
    redshift = float(np.interp(rng.random(), share, redshifts))
    log_masses, density = _mass_function()
    bright = log_masses > _least_mass(redshift, limit)
    visible = np.cumsum(np.where(bright, density, 0.0))
    log_mass = np.interp(rng.random(), visible / visible[-1], log_masses)
    return redshift, float(log_mass)


def _delayed(ages: np.ndarray, start: float, tau: float) -> np.ndarray:
    """Star-formation rate (ages,) that rises from a look-back time `start` on and declines over `tau` [Gyr]."""
    since = np.clip(start - ages, 0, None)
    return since * np.exp(-since / tau)


def _forming_history(rng: np.random.Generator, ages: np.ndarray, now: float, log_mass: float) -> np.ndarray:
    """Star-formation rate at each look-back time (ages,) of a star-forming galaxy, in any unit."""
    start = now * rng.uniform(0.65, 0.98)
    log_tau = rng.normal(0.52 - 0.25 * (log_mass - 10), 0.15)
    rate = _delayed(ages, start, 10**log_tau)
    change = 10 ** rng.normal(0, 0.25)
    recent = ages < rng.uniform(0.15, 0.6)
    rate = np.where(recent, rate * change, rate)
    if rng.random() < 0.1:
        burst = 10 ** rng.uniform(-1.5, -0.2)  # duration [Gyr]
        height = rng.uniform(0.003, 0.03) * rate.max() * now / burst
        rate = rate + np.where(ages < burst, height, 0.0)
    return rate


def _quiescent_history(rng: np.random.Generator, ages: np.ndarray, now: float, log_mass: float) -> np.ndarray:
    """The same of a galaxy that has been quenched; heavier ones began earlier and were faster."""
    start = now * np.clip(rng.normal(0.84 + 0.04 * (log_mass - 11), 0.09), 0.45, 0.97)
    log_tau = rng.normal(-0.1 - 0.1 * (log_mass - 11), 0.2)
    rate = _delayed(ages, start, 10**log_tau)
    quenched = start * rng.beta(1.3, 1.6)
    fading = np.exp(-(quenched - ages) / 0.25)
    rate = np.where(ages < quenched, rate * fading, rate)
    if rng.random() < 0.12:  # a late episode, which leaves A stars
        late = rng.uniform(0.3, 1.5)
        height = rng.uniform(0.02, 0.1) * rate.max()
        rate = rate + height * np.exp(-0.5 * ((ages - late) / 0.2) ** 2)
    return rate


def _formed(rng: np.random.Generator, quiescent: bool, redshift: float, log_mass: float) -> np.ndarray:
    """Mass formed in each age bin (ages,) [M_sun], so that 10**log_mass of it is left today."""
    now = universe_age(redshift)
    fine = np.geomspace(5e-4, now, 600)
    history = _quiescent_history if quiescent else _forming_history
    mass = history(rng, fine, now, log_mass) * np.gradient(fine)
    formed = np.histogram(fine, AGE_EDGES, weights=mass)[0]
    formed *= 10**log_mass / (formed @ library().survived)
    trickle = 10 ** (FASTEST_DECLINE + rng.normal(0, 0.45) + log_mass + 9)  # [M_sun / Gyr]
    recent = AGE_EDGES[1:] <= 0.2
    return np.where(recent, formed + trickle * np.diff(AGE_EDGES), formed)


def specific_rate(formed: np.ndarray, log_mass: float) -> float:
    """Log10 of the star-formation rate averaged over the last 100 Myr over mass [1/yr]."""
    covered = np.clip((YOUNG - AGE_EDGES[:-1]) / np.diff(AGE_EDGES), 0, 1)
    rate = (formed * covered).sum() / (YOUNG * 1e9)  # [M_sun / yr]
    return float(np.log10(rate) - log_mass)


def _structure(rng: np.random.Generator, quiescent: bool, log_mass: float) -> tuple[str, float, float]:
    """Morphology, share of the bulge and cosine of the inclination."""
    inclination = rng.random()
    if rng.random() < 0.04:
        return "merger", rng.uniform(0.05, 0.4), max(inclination, 0.3)
    elliptical_share = 1 / (1 + np.exp(-(log_mass - 10.6) / 0.35))  # of quiescent galaxies
    if quiescent and rng.random() < elliptical_share:
        return "elliptical", 1.0, rng.uniform(0.55, 1.0)
    irregular_share = 1 / (1 + np.exp((log_mass - 9.2) / 0.25))  # of star-forming galaxies
    if not quiescent and rng.random() < irregular_share:
        return "irregular", 0.0, rng.uniform(0.35, 1.0)
    if quiescent:
        bulge = rng.uniform(0.3, 0.75)
    else:
        discs = 7 - 2.2 * np.clip(log_mass - 9.5, 0, 1.6)  # heavy galaxies have larger bulges
        bulge = rng.beta(1.6, discs) + 0.02
    if inclination < 0.24:
        return "edge_on", min(bulge, 0.6), inclination
    if quiescent:
        return "lenticular", bulge, inclination
    kind = "barred_spiral" if rng.random() < 0.38 else "spiral"
    return kind, min(bulge, 0.6), inclination


def _arms(rng: np.random.Generator, morphology: str, bulge: float) -> tuple[int, float]:
    """Number of spiral arms and their pitch angle [degree]; arms around a large bulge are tight (Kennicutt 1981)."""
    if morphology not in ARMED:
        return 0, 0.0
    number = int(rng.choice(len(ARM_NUMBERS), p=ARM_NUMBERS)) + 1
    pitch = rng.normal(25 - 22 * bulge, 6)
    return number, float(np.clip(pitch, 7, 38))


def _clumps(rng: np.random.Generator, morphology: str, log_ssfr: float) -> int:
    """Number of star-forming regions; few and bright ones in irregular galaxies and in some that form many stars."""
    few = 0.1 + 0.4 / (1 + np.exp(-(log_ssfr + 9.6) / 0.25))  # probability
    if morphology == "irregular" or rng.random() < few:
        return int(rng.integers(6, CLUMPY))
    return int(rng.integers(60, 160))


def _radii(
    rng: np.random.Generator, morphology: str, quiescent: bool, log_mass: float, redshift: float
) -> tuple[float, float]:
    """Half-light radii of disc and bulge [kpc]."""
    log_early = 0.62 + 0.65 * (max(log_mass, 9.7) - 10.8) + rng.normal(0, 0.11)
    log_late = 0.72 + 0.21 * (log_mass - 10.4) + rng.normal(0, 0.15)
    if morphology == "elliptical":
        return 10**log_early, 10**log_early
    if quiescent:
        log_late = log_late - 0.12
    disc = 10**log_late * (1 + redshift) ** -0.6
    return disc, disc * 10 ** rng.normal(-0.75, 0.15)


def _metallicity(rng: np.random.Generator, quiescent: bool, log_mass: float) -> float:
    """Of the stars, log10(Z / Z_sun)."""
    at_mass = 0.13 - 0.85 / (1 + 10 ** (1.1 * (log_mass - 9.9)))
    metallicity = at_mass + rng.normal(0, METAL_SCATTER) + 0.05 * quiescent
    return float(np.clip(metallicity, -1.4, 0.38))


def _dust(rng: np.random.Generator, quiescent: bool, log_mass: float, inclination: float) -> float:
    """A_V [mag] of the disc towards us; discs seen from the side are dustier."""
    if quiescent:
        return float(rng.exponential(0.1))
    log_mean = 0.38 * (log_mass - 10) + rng.normal(0, DUST_SCATTER)
    towards_us = (inclination + 0.1) ** -0.35
    return float(min(0.32 * 10**log_mean * towards_us, 2.8))


def _oxygen(log_mass: float, log_ssfr: float) -> float:
    """Mean 12 + log10(O/H) of the gas, lower where many stars form."""
    at_mass = 8.75 - 0.55 / (1 + 10 ** (1.2 * (log_mass - 9.4)))
    return at_mass - 0.08 * np.clip(log_ssfr + 10, -1, 1.5)


def _nucleus(rng: np.random.Generator, log_mass: float) -> float:
    """Luminosity of an active nucleus in [O III] 5008 [L_sun], 0 for most."""
    active = rng.random() < 0.12 / (1 + np.exp(-(log_mass - 10.5) / 0.2))
    return float(10 ** rng.normal(7.0, 0.5)) if active else 0.0


def draw(rng: np.random.Generator, limit: float) -> Properties:
    """One galaxy that may be brighter than `limit` in r; whether it is follows from its spectrum."""
    redshift, log_mass = _redshift_and_mass(rng, limit)
    quenched_share = 0.03 + 0.92 / (1 + np.exp(-(log_mass - 10.55 - 0.4 * redshift) / 0.3))
    quiescent = rng.random() < quenched_share
    morphology, bulge, inclination = _structure(rng, quiescent, log_mass)
    formed = _formed(rng, quiescent and morphology != "merger", redshift, log_mass)
    metallicity = _metallicity(rng, quiescent, log_mass)
    radius, bulge_radius = _radii(rng, morphology, quiescent, log_mass, redshift)
    ssfr = specific_rate(formed, log_mass)
    dust = _dust(rng, quiescent, log_mass, inclination)
    arms, pitch = _arms(rng, morphology, bulge)
    clumps = _clumps(rng, morphology, ssfr)
    nucleus = _nucleus(rng, log_mass)
    oxygen = _oxygen(log_mass, ssfr) + rng.normal(0, 0.08)
    log_dispersion = 2.25 + 0.28 * (log_mass - 11) + rng.normal(0, 0.06)
    log_rotation = 2.13 + 0.27 * (log_mass - 10.2) + rng.normal(0, 0.06)
    return Properties(
        redshift=redshift,
        log_mass=log_mass,
        log_ssfr=ssfr,
        metallicity=metallicity,
        age=float(formed @ AGES / formed.sum()),
        morphology=morphology,
        formed=formed,
        bulge_share=float(bulge),
        dust=dust,
        radius=float(radius),
        bulge_radius=float(bulge_radius),
        inclination=float(inclination),
        gas_metallicity=float(oxygen),
        nucleus=nucleus,
        dispersion=float(10**log_dispersion),
        rotation=float(10**log_rotation),
        arms=arms,
        pitch=pitch,
        clumps=clumps,
    )
