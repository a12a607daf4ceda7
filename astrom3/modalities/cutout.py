"""Galaxy cutouts: g, r, z flux in nanomaggies to the image a network takes (Parker et al. 2024, section 3.1).

Everything here is torch, works on a batch, and runs where the flux lies.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from astrom3.errors import UserError

BAND_SCALES = {
    "u": 1.5,
    "g": 6.0,
    "r": 3.4,
    "i": 1.0,
    "z": 2.2,
}  # per nanomaggy
COLOURS = {
    "z": 0,
    "r": 1,
    "g": 2,
    "i": 0,
    "u": 2,
}  # plane of the network image that a band goes to
SOFTENING = 0.03  # m of the stretch
STRETCH = 20.0  # Q of the stretch (Lupton et al. 2004)
CROP = 144  # pixels


def stretch(
    flux: Tensor,
    bands: tuple[str, ...] = ("g", "r", "z"),
    m: float = SOFTENING,
    q: float = STRETCH,
    compat: bool = False,
) -> Tensor:
    """Flux (..., 3, H, W) in nanomaggies -> colour image (..., 3, H, W) in [0, 1], planes z, r, g.

    The stretch is arcsinh in the mean brightness of the bands. With `compat` q is ignored and always 20, as in the
    reference; released weights used 20.
    """
    if flux.shape[-3] != len(bands):
        raise UserError(
            f"an image of shape {tuple(flux.shape)} does not hold the bands {', '.join(bands)} in its third last axis"
        )
    q = STRETCH if compat else q
    order = sorted(bands, key=lambda band: COLOURS[band])
    scales = flux.new_tensor([BAND_SCALES[band] for band in order]).view(-1, 1, 1)
    scaled = flux[..., [bands.index(band) for band in order], :, :]  # (..., 3, H, W), a copy
    scaled = scaled.mul_(scales).add_(m)
    brightness = scaled.clamp(min=0).mean(dim=-3, keepdim=True)  # (..., 1, H, W)
    factor = _arcsinh(brightness * q).div_(q**0.5)
    factor = factor.div_(brightness.masked_fill_(brightness == 0, 1e-6))
    return scaled.mul_(factor).clamp_(0, 1)


def _arcsinh(y: Tensor) -> Tensor:
    """arcsinh of y >= 0 through log1p, which is ten times as fast as torch.asinh on a CPU, to the same precision."""
    root = (y * y).add_(1).sqrt_().add_(1)
    return (y * y).div_(root).add_(y).log1p_()


def centre_crop(image: Tensor, size: int) -> Tensor:
    """The middle size x size pixels of (..., H, W). Smaller images are padded with zeros.

    An odd margin is halved and rounded to the even number; an odd padding has its extra row or column at the end.
    """
    height, width = image.shape[-2:]
    missing_rows = max(size - height, 0)
    missing_columns = max(size - width, 0)
    if missing_rows or missing_columns:
        left = missing_columns // 2
        top = missing_rows // 2
        image = F.pad(image, (left, missing_columns - left, top, missing_rows - top))
    top = round((image.shape[-2] - size) / 2)
    left = round((image.shape[-1] - size) / 2)
    return image[..., top : top + size, left : left + size]


def network_image(flux: Tensor, size: int = CROP, m: float = SOFTENING, q: float = STRETCH) -> Tensor:
    """Cutouts (..., 3, H, W) g, r, z in nanomaggies, survey orientation -> network images (..., 3, size, size).

    Cropping comes before the stretch, which is the same and cheaper, but zeros are padded after it, as published.
    """
    height, width = flux.shape[-2:]
    if min(height, width) >= size and compiled_can(flux):
        return compiled_image(flux, size, m, q)
    if height > size or width > size:
        flux = _crop_only(flux, size)
    return centre_crop(stretch(flux, m=m, q=q), size)


def compiled_can(flux: Tensor) -> bool:
    """Whether the compiled loop can take these cutouts: in the memory of this processor, and nothing is traced."""
    plain = flux.device.type == "cpu" and flux.dtype == torch.float32 and not flux.requires_grad
    return plain and flux.ndim == 4 and not (torch.jit.is_tracing() or torch.compiler.is_compiling())


def compiled_image(flux: Tensor, size: int, m: float, q: float) -> Tensor:
    """`network_image` of cutouts (B, 3, H, W) in one pass over the pixels, which stay in the fastest memory."""
    from astrom3.modalities.pixel_kernels import coloured

    height, width = flux.shape[-2:]
    out = torch.empty((len(flux), 3, size, size), dtype=torch.float32)
    top = round((height - size) / 2)
    left = round((width - size) / 2)
    coloured(flux.numpy(), top, left, m, q, out.numpy())
    return out


def _crop_only(flux: Tensor, size: int) -> Tensor:
    """The middle of each axis that is longer than `size`; a shorter axis stays as it is."""
    top = round(max(flux.shape[-2] - size, 0) / 2)
    left = round(max(flux.shape[-1] - size, 0) / 2)
    return flux[..., top : top + size, left : left + size]


def channels_first(flux: Tensor, bands: int = 3, layout: str = "guess") -> Tensor:
    """An image (H, W, C) or (C, H, W) as (C, H, W).

    `layout` is "CHW", "HWC" or "guess". The guess is the reference's: channels first where the first axis has as many
    entries as there are bands, so it misreads an (H, W, C) image of three rows.
    """
    if layout == "guess":
        layout = "CHW" if flux.shape[0] == bands else "HWC"
    if layout not in ("CHW", "HWC"):
        raise UserError(f"layout={layout!r} of an image is not one of CHW, HWC and guess")
    return flux if layout == "CHW" else flux.movedim(-1, -3)


def from_paired(flux: Tensor) -> Tensor:
    """Images (B, H, W, 3) of the published paired data set -> (B, 3, W, H), the survey's orientation.

    That data set stores cutouts with their spatial axes swapped, and its collate function swaps them back.
    """
    return flux.permute(0, 3, 2, 1)


def galaxy_zoo_image(flux: Tensor, size: int = CROP, compat: bool = False) -> Tensor:
    """Survey cutouts (..., 3, H, W) -> network images (..., 3, size, size) for the morphology task.

    With `compat` the spatial axes of the result are swapped, as the reference does by mistake; the networks were
    trained without that swap.
    """
    image = stretch(centre_crop(flux, size))
    return image.transpose(-1, -2) if compat else image
