"""Simulated galaxies with images, spectra and properties, for AstroCLIP without a download."""

from astrom3.simulate.galaxies.survey import Galaxy, draw, galaxy, write

__all__ = ["Galaxy", "draw", "galaxy", "write"]
