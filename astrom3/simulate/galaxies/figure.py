"""A picture of simulated galaxies with their spectra: python -m astrom3.simulate.galaxies.figure galaxies.png --seed 0

Images have the stretch that AstroCLIP's networks see (Lupton et al. 2004), north up. Spectra are smoothed over five
pixels, with emission lines in red and absorption lines in blue at the redshift of the galaxy.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from astrom3.simulate.galaxies.populations import MORPHOLOGIES
from astrom3.simulate.galaxies.spectra import GRID
from astrom3.simulate.galaxies.survey import Galaxy, galaxy

STRETCH = np.array([6.0, 3.4, 2.2])[:, None, None]  # of g, r, z
SOFTENING = 20.0
EMISSION = {"[O II]": 3728.8, "Hβ": 4862.7, "[O III]": 5008.2, "Hα [N II]": 6570.0, "[S II]": 6725.0}
ABSORPTION = {"K": 3934.8, "H": 3969.6, "Hδ": 4102.9, "G": 4304.4, "Mg b": 5176.0, "Na D": 5894.6}


def stretched(image: np.ndarray, offset: float = 0.03) -> np.ndarray:
    """Colour picture (size, size, 3) in [0, 1], red first, of an image (3, size, size) [nanomaggies]."""
    value = image * STRETCH + offset
    intensity = np.clip(value, 0, None).mean(0)
    curved = np.arcsinh(SOFTENING * intensity) / np.sqrt(SOFTENING)
    colour = value * curved / np.where(intensity == 0, 1e-6, intensity)
    red_first = np.clip(colour, 0, 1)[::-1]
    return red_first.transpose(1, 2, 0)


def _smooth(spectrum: np.ndarray, weight: np.ndarray, width: int = 5) -> np.ndarray:
    """Running mean weighted by inverse variance, (pixels,)."""
    window = np.ones(width)
    total = np.convolve(spectrum * weight, window, "same")
    weights = np.convolve(weight, window, "same")
    return total / np.maximum(weights, 1e-12)


def _mark_lines(axis: Axes, lines: dict[str, float], redshift: float, top: float, colour: str) -> None:
    """Dotted lines with names at the observed wavelengths of lines, whose rest wavelengths are given."""
    for name, rest in lines.items():
        wavelength = rest * (1 + redshift)
        if GRID[0] < wavelength < GRID[-1]:
            axis.axvline(wavelength, color=colour, lw=0.6, alpha=0.45, ls=":")
            axis.text(wavelength, top, name, color=colour, fontsize=5.5, ha="center", va="top", rotation=90)


def _draw_spectrum(axis: Axes, member: Galaxy) -> None:
    truth = member.properties
    smooth = _smooth(member.spectrum, member.ivar)
    axis.plot(GRID, smooth, color="0.25", lw=0.5)
    low, high = np.percentile(smooth[200:], [0.5, 99.7])  # the blue end is noise
    height = high - low
    top = high + 0.35 * height
    bottom = min(low - 0.05 * height, 0)
    _mark_lines(axis, EMISSION, truth.redshift, top, "tab:red")
    _mark_lines(axis, ABSORPTION, truth.redshift, top, "tab:blue")
    axis.set(xlim=(GRID[0], GRID[-1]), ylim=(bottom, top))
    axis.tick_params(labelsize=6)
    label = (
        f"{truth.morphology.replace('_', ' ')}   z = {truth.redshift:.3f}   r = {member.magnitudes[1]:.1f}   "
        f"log M = {truth.log_mass:.1f}   log sSFR = {truth.log_ssfr:.1f}   [Z] = {truth.metallicity:.1f}   "
        f"age {truth.age:.1f} Gyr"
    )
    axis.set_title(label, fontsize=7, loc="left", pad=3)


def plot(members: list[Galaxy], path: Path) -> None:
    """Draw galaxies in two columns of image and spectrum, and save the picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = (len(members) + 1) // 2
    figure, axes = plt.subplots(rows, 4, figsize=(16, 2.5 * rows), width_ratios=[1, 2.6, 1, 2.6], squeeze=False)
    for axis in axes.ravel():
        axis.set_visible(False)
    for number, member in enumerate(members):
        row, column = divmod(number, 2)
        picture, spectrum = axes[row, 2 * column : 2 * column + 2]
        picture.set_visible(True)
        spectrum.set_visible(True)
        picture.imshow(stretched(member.image), origin="lower", interpolation="nearest")
        picture.set_axis_off()
        _draw_spectrum(spectrum, member)
    figure.supxlabel("observed wavelength [Å], flux [1e-17 erg/s/cm²/Å]", fontsize=8)
    figure.tight_layout(pad=0.5)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def varied(seed: int, number: int, brighter: float) -> list[Galaxy]:
    """The first galaxies of a survey brighter than an r magnitude, passing over a type while others have fewer."""
    chosen: list[Galaxy] = []
    counts = dict.fromkeys(MORPHOLOGIES, 0)
    for index in range(400 * number):
        member = galaxy(seed, index)
        if member.magnitudes[1] > brighter:
            continue
        kind = member.properties.morphology
        if counts[kind] <= len(chosen) // len(MORPHOLOGIES):
            chosen.append(member)
            counts[kind] += 1
        if len(chosen) == number:
            break
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw simulated galaxies with their spectra.")
    parser.add_argument("path", type=Path, help="the picture to write, for example galaxies.png")
    parser.add_argument("--seed", type=int, default=0, help="seed of the survey")
    parser.add_argument("--number", type=int, default=12, help="number of galaxies")
    parser.add_argument(
        "--brighter", type=float, default=30.0, help="draw only galaxies brighter than this r magnitude"
    )
    arguments = parser.parse_args()
    plot(varied(arguments.seed, arguments.number, arguments.brighter), arguments.path)


if __name__ == "__main__":
    main()
