"""Images of galaxies for the page: the colours that the network sees, as JPEG files of a few kilobytes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch

from astrom3.data.observed import Observed
from astrom3.explore.packing import pack
from astrom3.modalities.cutout import stretch

QUALITY = 90  # of JPEG: a cutout of 152 pixels takes about 6 kB


def picture(flux: np.ndarray) -> bytes:
    """Flux float32 (3, H, W) of g, r, z [nanomaggies] as a JPEG file, north and east as in the survey's cutouts.

    Red, green and blue are z, r and g after the stretch of AstroCLIP's images. The first row of the array is the lowest
    of the sky, so it is the lowest of the picture.
    """
    from PIL import Image

    colours = stretch(torch.from_numpy(np.ascontiguousarray(flux[None], dtype=np.float32)))[0]
    pixels = np.rint(colours.numpy().transpose(1, 2, 0)[::-1] * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def pictures(objects: Sequence[Observed]) -> bytes:
    """Of m objects: bytes of each file (m,), 0 where there is no image, and the files one behind the other."""
    files = []
    for one in objects:
        files.append(b"" if one.image is None else picture(one.image))
    return pack(
        {
            "count": np.array([len(file) for file in files], dtype=np.uint32),
            "jpeg": np.frombuffer(b"".join(files), dtype=np.uint8),
        }
    )
