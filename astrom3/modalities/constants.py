"""Keys of batches and sizes that views share with encoders. It imports nothing, because encoders need torch alone."""

RING = "folded/ring"  # (B, CHANNELS, bins)
SCALAR = "folded/scalars"  # (B, SCALARS)
FEATURES = "variability/features"  # (B, VARIABILITY_FEATURES)
CHANNELS = 4
SCALARS = 5
VARIABILITY_FEATURES = 58
MAGNITUDES = "magnitudes/grz"  # (B, 3)
WAVELENGTH = 11  # channel of log10(wavelength / REFERENCE) of a curve of several bands
REFERENCE = 5500.0  # Angstrom; also taken for points whose band is not known
