"""A simulated survey of variable stars, for installing, testing, benchmarks and teaching; never a scientific result.

populations: stars per class; colours, catalogue: the columns; lightcurves: ASAS-SN-like; spectra: LAMOST-like; survey:
assembles the objects and writes the files.
"""
