"""Simulated galaxies with images, spectra and properties, for AstroCLIP without a download."""
