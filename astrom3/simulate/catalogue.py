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
R_SUN = 8.2  # kpc, km/s
V_CIRCULAR = 233.0
SOLAR_MOTION = np.array([11.1, 12.2, 7.3])  # km/s
DISPERSION = np.array([[35.0, 22.0, 17.0], [62.0, 40.0, 38.0], [140.0, 100.0, 95.0]])  # thin, thick, halo
DRIFT = np.array([12.0, 45.0, 210.0])  # asymmetric drift [km/s]
SIN_B_WIDTH = np.array([0.46, 0.36, 0.62])
KMS_PER_MASYR_KPC = 4.740470


def _positions(rng: np.random.Generator, stars: Stars) -> tuple[np.ndarray, np.ndarray]:
    """Galactic l, b [degree] in the footprint of LAMOST: north of declination -10, denser toward the anticentre."""
    n = len(stars.label)
    lon = np.empty(n)
    sin_b = np.empty(n)
    todo = np.arange(n)
    while len(todo):
        trial_l = rng.uniform(0, 360, len(todo))
        trial_b = rng.normal(0.08, SIN_B_WIDTH[stars.population[todo]])
        angle = np.radians(trial_l)
        cos_b = np.sqrt(np.maximum(1 - trial_b**2, 0))
        sin_dec = (
            TO_GALACTIC[0, 2] * cos_b * np.cos(angle)
            + TO_GALACTIC[1, 2] * cos_b * np.sin(angle)
            + TO_GALACTIC[2, 2] * trial_b
        )
        chance = (0.35 + 0.65 * (1 - np.cos(angle)) / 2) * np.where(sin_dec > np.sin(np.radians(60)), 0.3, 1.0)
        good = (np.abs(trial_b) < 0.995) & (sin_dec > np.sin(np.radians(-10))) & (rng.random(len(todo)) < chance)
        lon[todo[good]], sin_b[todo[good]] = trial_l[good], trial_b[good]
        todo = todo[~good]
    return lon, np.degrees(np.arcsin(sin_b))


def _distances(rng: np.random.Generator, stars: Stars, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance [kpc] and A_V [mag] that solve V = M_V + 5 log10(d / 10 pc) + A_V(d, b)."""
    sin_b = np.maximum(np.abs(np.sin(np.radians(b))), 0.01)
    clumpy = rng.lognormal(0, 0.3, len(b))
    low = np.full(len(b), -3.0)  # log10(kpc): bisection, the right side rises with d
    high = np.full(len(b), 2.0)
    for _ in range(40):
        middle = (low + high) / 2
        a_v = 0.09 / sin_b * (1 - np.exp(-(10**middle) * sin_b / 0.1)) * clumpy
        far = stars.m_v + 5 * middle + 10 + a_v > stars.v_mag
        low, high = np.where(far, low, middle), np.where(far, middle, high)
    return 10**middle, a_v


def _velocities(
    rng: np.random.Generator, stars: Stars, lon: np.ndarray, b: np.ndarray, d: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Proper motion in right ascension and declination [mas/yr] and radial velocity [km/s]."""
    n = len(lon)
    lon, b = np.radians(lon), np.radians(b)
    toward = np.stack([np.cos(b) * np.cos(lon), np.cos(b) * np.sin(lon), np.sin(b)], 1)  # (n, 3)
    place = toward * d[:, None] - np.array([R_SUN, 0, 0])
    radius = np.hypot(place[:, 0], place[:, 1])
    turning = (V_CIRCULAR - DRIFT[stars.population])[:, None] * np.stack([place[:, 1], -place[:, 0], 0 * radius], 1)
    velocity = turning / radius[:, None] + rng.normal(size=(n, 3)) * DISPERSION[stars.population]
    velocity -= np.array([0, V_CIRCULAR, 0]) + SOLAR_MOTION
    equatorial, velocity = toward @ TO_GALACTIC, velocity @ TO_GALACTIC
    ra = np.arctan2(equatorial[:, 1], equatorial[:, 0])
    east = np.stack([-np.sin(ra), np.cos(ra), 0 * ra], 1)
    north = np.cross(equatorial, east)
    per_mas = KMS_PER_MASYR_KPC * d
    return (velocity * east).sum(1) / per_mas, (velocity * north).sum(1) / per_mas, (velocity * equatorial).sum(1)


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


def draw_columns(rng: np.random.Generator, stars: Stars) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The 33 columns of META_COLS beside mean_vmag; and a_v [mag], distance [kpc], rv [km/s] for other modalities."""
    n = len(stars.label)
    lon, b = _positions(rng, stars)
    d, a_v = _distances(rng, stars, b)
    pmra, pmdec, rv = _velocities(rng, stars, lon, b, d)
    modulus = 5 * np.log10(d) + 10
    m = {}
    for band, value in colours.absolute_magnitudes(stars.m_v, stars.teff, stars.giant).items():
        m[band] = value + modulus + colours.EXTINCTION[band] * a_v
    # Deviation of a single observation [mag]; a detached binary is seen outside its eclipses most of the time.
    spread = stars.amplitude * np.where(stars.label == CLASSES.index("EA"), 0.18, 0.34)
    scatter = rng.normal(0, 0.025, (3, n))
    # Gaia: the error of a mean magnitude is the scatter over the square root of the visits.
    visits = np.sqrt(rng.uniform(150, 450, n))
    e_g = np.hypot(0.0028 * rng.lognormal(0, 0.15, n), 0.55 * spread / visits)
    e_bp = np.hypot(0.006 + 0.006 * 10 ** (0.3 * (m["bp"] - 15.5)), 2.0 * spread / visits) * rng.lognormal(0, 0.25, n)
    e_rp = np.hypot(0.006 + 0.004 * 10 ** (0.25 * (m["rp"] - 15)), 1.3 * spread / visits) * rng.lognormal(0, 0.25, n)
    bp = m["bp"] + scatter[0]
    rp = m["rp"] + scatter[1]
    tail = rng.random(n) < np.array([RUWE_TAIL[c] for c in CLASSES])[stars.label]
    ruwe = np.where(tail, 1.2 + rng.lognormal(0.75, 1.05, n), rng.lognormal(0.02, 0.06, n))
    plx_error = np.hypot(0.013, 0.019 * 10 ** (0.2 * (m["g"] - 14.5))) * ruwe**0.9 * rng.lognormal(0, 0.15, n)
    plx = 1 / d + rng.normal(size=n) * plx_error
    pmra_error = plx_error * rng.lognormal(0.02, 0.12, n)
    pmdec_error = plx_error * rng.lognormal(-0.14, 0.12, n)
    pmra, pmdec = pmra + rng.normal(size=n) * pmra_error, pmdec + rng.normal(size=n) * pmdec_error
    # 2MASS: single epochs, saturated below 5 mag, failed fits with errors of magnitudes in a few of a thousand.
    epoch = rng.normal(size=n) * spread * 0.4
    j, h, k = (m[x] + epoch + rng.normal(0, 0.025, n) for x in "jhk")
    e_j, e_h, e_k = (np.hypot(0.021, 0.03 * 10 ** (0.3 * (x - 15))) * rng.lognormal(0, 0.12, n) for x in (j, h, k))
    e_h, e_k = e_h + 0.16 * (h < 5), e_k + 0.2 * (k < 4.8)
    e_j = e_j + 0.15 * (j < 5)
    e_h = np.where(rng.random(n) < 0.003, rng.uniform(1, 4, n), e_h)
    e_k = np.where(rng.random(n) < 0.004, rng.uniform(2, 9, n), e_k)
    # AllWISE: mean of many epochs; W3 and W4 of faint stars are limits.
    w1 = m["w1"] + rng.normal(0, 0.03, n)
    w2 = m["w2"] + rng.normal(0, 0.025, n)
    e_w1 = 0.0235 * rng.lognormal(0, 0.06, n) + np.clip(7.5 - w1, 0, 3.5) * 0.07 * rng.lognormal(0, 0.3, n)
    e_w2 = 0.0205 * rng.lognormal(0, 0.08, n) + np.clip(6.9 - w2, 0, 3.5) * 0.075 * rng.lognormal(0, 0.3, n)
    w1 = w1 + np.clip(7.5 - w1, 0, 3) * rng.normal(0, 0.09, n)
    w2 = w2 + np.clip(7 - w2, 0, 3) * rng.normal(0, 0.08, n)
    w3 = np.minimum(
        m["w3"] + rng.normal(0, 0.03, n) + 0.15 * rng.normal(size=n) * (m["w3"] > 11), rng.normal(12.2, 0.35, n)
    )
    w4 = np.minimum(m["w4"] + rng.normal(0, 0.06, n), rng.normal(8.85, 0.35, n))
    columns = {
        "phot_g_mean_mag": m["g"] + scatter[2] * 0.4,
        "e_phot_g_mean_mag": e_g,
        "bp_rp": bp - rp,
        "phot_bp_mean_mag": bp,
        "e_phot_bp_mean_mag": e_bp,
        "phot_rp_mean_mag": rp,
        "e_phot_rp_mean_mag": e_rp,
        "parallax": plx,
        "parallax_error": plx_error,
        "parallax_over_error": plx / plx_error,
        "pmra": pmra,
        "pmra_error": pmra_error,
        "pmdec": pmdec,
        "pmdec_error": pmdec_error,
        "j_mag": j,
        "e_j_mag": e_j,
        "h_mag": h,
        "e_h_mag": e_h,
        "k_mag": k,
        "e_k_mag": e_k,
        "w1_mag": w1,
        "e_w1_mag": e_w1,
        "w2_mag": w2,
        "e_w2_mag": e_w2,
        "w3_mag": w3,
        "w4_mag": w4,
        "j_k": j - k,
        "w1_w2": w1 - w2,
        "w3_w4": w3 - w4,
        "pm": np.hypot(pmra, pmdec),
        "ruwe": ruwe,
        "l": lon,
        "b": b,
    }
    return columns, {"a_v": a_v, "distance": d, "rv": rv}
