"""A simulated survey of variable stars, for installing, testing, benchmarks and teaching; never a scientific result.

populations: stars per class; colours and catalogue: the columns; lightcurves: ASAS-SN-like; spectra: LAMOST-like; survey: files.
"""
