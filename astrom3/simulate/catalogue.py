"""Catalogue columns of the simulated stars, each from luminosity, temperature, distance and extinction.

Sources (colours: see colours.py): dust disc with scale height 100 pc after Jones et al. 2011; kinematics of thin disc,
thick disc and halo Bensby et al. 2003, solar motion Schoenrich et al. 2010; errors of Gaia EDR3 after Lindegren et al.
2021; saturation and depth of 2MASS (Skrutskie et al. 2006) and AllWISE (Cutri et al. 2013).
"""

from __future__ import annotations

import numpy as np

from astrom3.modalities.schema import CLASSES
from astrom3.simulate import colours
from astrom3.simulate.populations import Stars

# Unit vectors of the equatorial axes' galactic frame: rows are the galactic x, y, z axes in ICRS (Hipparcos, vol. 1).
TO_GALACTIC = np.array([[-0.0548755604, -0.8734370902, -0.4838350155],
                        [0.4941094279, -0.4448296300, 0.7469822445],
                        [-0.8676661490, -0.1980763734, 0.4559837762]])  # fmt: skip
R_SUN = 8.2  # distance of the galactic centre [kpc]
V_CIRCULAR = 233.0  # of the galaxy at the sun [km/s]
SOLAR_MOTION = np.array([11.1, 12.2, 7.3])  # km/s
DISPERSION = np.array([[35.0, 22.0, 17.0], [62.0, 40.0, 38.0], [140.0, 100.0, 95.0]])  # thin, thick, halo
DRIFT = np.array([12.0, 45.0, 210.0])  # asymmetric drift [km/s]
SIN_B_WIDTH = np.array([0.46, 0.36, 0.62])  # spread of sin b of thin disc, thick disc and halo
KMS_PER_MASYR_KPC = 4.740470  # km/s of 1 mas/yr at 1 kpc
SCALE_HEIGHT = 0.1  # of the dust [kpc]
POLAR_A_V = 0.09  # A_V from the sun to a galactic pole [mag]
SIN_SOUTHERN_LIMIT = np.sin(np.radians(-10))  # of declination
SIN_FAR_NORTH = np.sin(np.radians(60))
Columns = dict[str, np.ndarray]  # by name, each (n,)


def _positions(rng: np.random.Generator, stars: Stars) -> tuple[np.ndarray, np.ndarray]:
    """Galactic l, b [degree] in the footprint of LAMOST: north of declination -10, denser toward the anticentre."""
    n = len(stars.label)
    longitude = np.empty(n)
    sin_b = np.empty(n)
    todo = np.arange(n)
    x, y, z = TO_GALACTIC[:, 2]  # the celestial pole in galactic coordinates
    while len(todo):
        trial_l = rng.uniform(0, 360, len(todo))
        trial_b = rng.normal(0.08, SIN_B_WIDTH[stars.population[todo]])
        angle = np.radians(trial_l)
        cos_b = np.sqrt(np.maximum(1 - trial_b**2, 0))
        sin_dec = x * cos_b * np.cos(angle) + y * cos_b * np.sin(angle) + z * trial_b
        toward_anticentre = 0.35 + 0.65 * (1 - np.cos(angle)) / 2
        chance = toward_anticentre * np.where(sin_dec > SIN_FAR_NORTH, 0.3, 1.0)
        possible = (np.abs(trial_b) < 0.995) & (sin_dec > SIN_SOUTHERN_LIMIT)
        good = possible & (rng.random(len(todo)) < chance)
        longitude[todo[good]] = trial_l[good]
        sin_b[todo[good]] = trial_b[good]
        todo = todo[~good]
    return longitude, np.degrees(np.arcsin(sin_b))


def _distances(rng: np.random.Generator, stars: Stars, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance [kpc] and A_V [mag] that solve V = M_V + 5 log10(d / 10 pc) + A_V(d, b)."""
    sin_b = np.maximum(np.abs(np.sin(np.radians(b))), 0.01)
    clumpy = rng.lognormal(0, 0.3, len(b))
    low = np.full(len(b), -3.0)  # log10(kpc): bisection, the right side rises with d
    high = np.full(len(b), 2.0)
    for _ in range(40):
        middle = (low + high) / 2
        crossed = 1 - np.exp(-(10**middle) * sin_b / SCALE_HEIGHT)  # share of the dust layer in front of the star
        a_v = POLAR_A_V / sin_b * crossed * clumpy
        modulus = 5 * middle + 10
        too_far = stars.m_v + modulus + a_v > stars.v_mag
        low = np.where(too_far, low, middle)
        high = np.where(too_far, middle, high)
    return 10**middle, a_v


def _velocities(
    rng: np.random.Generator, stars: Stars, l_degree: np.ndarray, b_degree: np.ndarray, distance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Proper motion in right ascension and declination [mas/yr] and radial velocity [km/s]."""
    longitude = np.radians(l_degree)
    b = np.radians(b_degree)
    toward = np.stack([np.cos(b) * np.cos(longitude), np.cos(b) * np.sin(longitude), np.sin(b)], 1)  # (n, 3)
    place = toward * distance[:, None] - np.array([R_SUN, 0, 0])  # from the galactic centre [kpc]
    x = place[:, 0]
    y = place[:, 1]
    radius = np.hypot(x, y)
    speed = V_CIRCULAR - DRIFT[stars.population]
    rotation = speed[:, None] * np.stack([y, -x, 0 * radius], 1)
    velocity = rotation / radius[:, None] + rng.normal(size=place.shape) * DISPERSION[stars.population]
    velocity -= np.array([0, V_CIRCULAR, 0]) + SOLAR_MOTION
    # From the galactic frame to the directions of the observer.
    toward = toward @ TO_GALACTIC
    velocity = velocity @ TO_GALACTIC
    ra = np.arctan2(toward[:, 1], toward[:, 0])
    east = np.stack([-np.sin(ra), np.cos(ra), 0 * ra], 1)
    north = np.cross(toward, east)
    per_mas = KMS_PER_MASYR_KPC * distance
    pmra = (velocity * east).sum(1) / per_mas
    pmdec = (velocity * north).sum(1) / per_mas
    return pmra, pmdec, (velocity * toward).sum(1)


# Share of stars whose astrometry is disturbed (companions, colour and brightness changes of Miras).
RUWE_TAIL = {
    "DSCT": 0.08,
    "EA": 0.14,
    "EB": 0.14,
    "EW": 0.13,
    "HADS": 0.05,
    "M": 0.35,
    "ROT": 0.3,
    "RRAB": 0.05,
    "RRC": 0.05,
    "SR": 0.16,
}


def _apparent_magnitudes(stars: Stars, distance: np.ndarray, a_v: np.ndarray) -> Columns:
    """Mean magnitudes without errors, by band."""
    modulus = 5 * np.log10(distance) + 10
    apparent = {}
    for band, absolute in colours.absolute_magnitudes(stars.m_v, stars.teff, stars.giant).items():
        apparent[band] = absolute + modulus + colours.EXTINCTION[band] * a_v
    return apparent


def _gaia_photometry(rng: np.random.Generator, true: Columns, spread: np.ndarray) -> Columns:
    """Magnitudes and errors of Gaia: the error of a mean magnitude is the scatter over the root of the visits."""
    n = len(spread)
    scatter_bp, scatter_rp, scatter_g = rng.normal(0, 0.025, (3, n))
    visits = np.sqrt(rng.uniform(150, 450, n))
    photon_bp = 0.006 + 0.006 * 10 ** (0.3 * (true["bp"] - 15.5))
    photon_rp = 0.006 + 0.004 * 10 ** (0.25 * (true["rp"] - 15))
    error_g = np.hypot(0.0028 * rng.lognormal(0, 0.15, n), 0.55 * spread / visits)
    error_bp = np.hypot(photon_bp, 2.0 * spread / visits) * rng.lognormal(0, 0.25, n)
    error_rp = np.hypot(photon_rp, 1.3 * spread / visits) * rng.lognormal(0, 0.25, n)
    bp = true["bp"] + scatter_bp
    rp = true["rp"] + scatter_rp
    return {
        "phot_g_mean_mag": true["g"] + scatter_g * 0.4,
        "e_phot_g_mean_mag": error_g,
        "bp_rp": bp - rp,
        "phot_bp_mean_mag": bp,
        "e_phot_bp_mean_mag": error_bp,
        "phot_rp_mean_mag": rp,
        "e_phot_rp_mean_mag": error_rp,
    }


def _gaia_astrometry(
    rng: np.random.Generator, stars: Stars, g: np.ndarray, distance: np.ndarray, pmra: np.ndarray, pmdec: np.ndarray
) -> Columns:
    """Measured parallax [mas] and proper motion [mas/yr] of stars of a magnitude G [mag] and distance [kpc]."""
    n = len(g)
    disturbed_share = np.array([RUWE_TAIL[name] for name in CLASSES])
    disturbed = rng.random(n) < disturbed_share[stars.label]
    ruwe_disturbed = 1.2 + rng.lognormal(0.75, 1.05, n)
    ruwe = np.where(disturbed, ruwe_disturbed, rng.lognormal(0.02, 0.06, n))
    photon = 0.019 * 10 ** (0.2 * (g - 14.5))
    parallax_error = np.hypot(0.013, photon) * ruwe**0.9 * rng.lognormal(0, 0.15, n)
    parallax = 1 / distance + rng.normal(size=n) * parallax_error
    pmra_error = parallax_error * rng.lognormal(0.02, 0.12, n)
    pmdec_error = parallax_error * rng.lognormal(-0.14, 0.12, n)
    pmra = pmra + rng.normal(size=n) * pmra_error
    pmdec = pmdec + rng.normal(size=n) * pmdec_error
    return {
        "parallax": parallax,
        "parallax_error": parallax_error,
        "parallax_over_error": parallax / parallax_error,
        "pmra": pmra,
        "pmra_error": pmra_error,
        "pmdec": pmdec,
        "pmdec_error": pmdec_error,
        "pm": np.hypot(pmra, pmdec),
        "ruwe": ruwe,
    }


def _two_mass(rng: np.random.Generator, true: Columns, spread: np.ndarray) -> Columns:
    """2MASS: single epochs, saturated below 5 mag, failed fits with errors of magnitudes in a few of a thousand."""
    n = len(spread)
    epoch = rng.normal(size=n) * spread * 0.4
    j = true["j"] + epoch + rng.normal(0, 0.025, n)
    h = true["h"] + epoch + rng.normal(0, 0.025, n)
    k = true["k"] + epoch + rng.normal(0, 0.025, n)

    def error(magnitude: np.ndarray) -> np.ndarray:
        photon = 0.03 * 10 ** (0.3 * (magnitude - 15))
        return np.hypot(0.021, photon) * rng.lognormal(0, 0.12, n)

    def failed(share: float, least: float, most: float, errors: np.ndarray) -> np.ndarray:
        """Errors of which a share is that of a fit that failed."""
        return np.where(rng.random(n) < share, rng.uniform(least, most, n), errors)

    error_j = error(j) + 0.15 * (j < 5)
    error_h = error(h) + 0.16 * (h < 5)
    error_k = error(k) + 0.2 * (k < 4.8)
    error_h = failed(0.003, 1, 4, error_h)
    error_k = failed(0.004, 2, 9, error_k)
    return {
        "j_mag": j,
        "e_j_mag": error_j,
        "h_mag": h,
        "e_h_mag": error_h,
        "k_mag": k,
        "e_k_mag": error_k,
        "j_k": j - k,
    }


def _all_wise(rng: np.random.Generator, true: Columns) -> Columns:
    """AllWISE: mean of many epochs; W1 and W2 of bright stars saturate, W3 and W4 of faint stars are limits."""
    n = len(true["w1"])
    w1 = true["w1"] + rng.normal(0, 0.03, n)
    w2 = true["w2"] + rng.normal(0, 0.025, n)
    saturated_w1 = 7.5 - w1  # magnitudes above saturation
    saturated_w2 = 6.9 - w2
    error_w1 = 0.0235 * rng.lognormal(0, 0.06, n)
    error_w1 = error_w1 + np.clip(saturated_w1, 0, 3.5) * 0.07 * rng.lognormal(0, 0.3, n)
    error_w2 = 0.0205 * rng.lognormal(0, 0.08, n)
    error_w2 = error_w2 + np.clip(saturated_w2, 0, 3.5) * 0.075 * rng.lognormal(0, 0.3, n)
    w1 = w1 + np.clip(saturated_w1, 0, 3) * rng.normal(0, 0.09, n)
    w2 = w2 + np.clip(7 - w2, 0, 3) * rng.normal(0, 0.08, n)
    measured_w3 = true["w3"] + rng.normal(0, 0.03, n)
    measured_w3 = measured_w3 + 0.15 * rng.normal(size=n) * (true["w3"] > 11)
    w3 = np.minimum(measured_w3, rng.normal(12.2, 0.35, n))
    measured_w4 = true["w4"] + rng.normal(0, 0.06, n)
    w4 = np.minimum(measured_w4, rng.normal(8.85, 0.35, n))
    return {
        "w1_mag": w1,
        "e_w1_mag": error_w1,
        "w2_mag": w2,
        "e_w2_mag": error_w2,
        "w3_mag": w3,
        "w4_mag": w4,
        "w1_w2": w1 - w2,
        "w3_w4": w3 - w4,
    }


def draw_columns(rng: np.random.Generator, stars: Stars) -> tuple[Columns, Columns]:
    """The 33 columns of META_COLS beside mean_vmag; and a_v [mag], distance [kpc], rv [km/s] for other modalities."""
    longitude, b = _positions(rng, stars)
    distance, a_v = _distances(rng, stars, b)
    pmra, pmdec, rv = _velocities(rng, stars, longitude, b, distance)
    true = _apparent_magnitudes(stars, distance, a_v)
    # Deviation of a single observation [mag]; a detached binary is seen outside its eclipses most of the time.
    detached = stars.label == CLASSES.index("EA")
    spread = stars.amplitude * np.where(detached, 0.18, 0.34)
    columns = {
        **_gaia_photometry(rng, true, spread),
        **_gaia_astrometry(rng, stars, true["g"], distance, pmra, pmdec),
        **_two_mass(rng, true, spread),
        **_all_wise(rng, true),
        "l": longitude,
        "b": b,
    }
    return columns, {"a_v": a_v, "distance": distance, "rv": rv}
