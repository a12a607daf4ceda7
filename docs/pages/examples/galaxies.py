# ---
# jupyter:
#   kernelspec: {name: python3, display_name: Python 3, language: python}
# ---

# %% [markdown]
# # Galaxies: images that resemble a spectrum
#
# AstroCLIP puts images and spectra of galaxies into one space, so that an image finds spectra and a spectrum finds
# images. Here a tiny model with hardly any training shows the steps. For results, load the released weights with
# `astrom3.load("astroclip.ckpt")` and leave the training out.

# %%
import logging

import matplotlib.pyplot as plt
import numpy as np
import torch

from astrom3.cli.config import compose
from astrom3.data.layouts import open_source
from astrom3.data.observed import observations
from astrom3.embed.__main__ import embed
from astrom3.inference.embeddings import Embeddings
from astrom3.modalities.cutout import stretch
from astrom3.simulate.galaxies.survey import write
from astrom3.train import train

logging.basicConfig(level=logging.WARNING)

# %%
write("galaxies", 30, seed=0)
data = ["data=local", "data.path=galaxies", "data.cache=cache"]
options = ["model=astroclip", "mode=clip", "size=tiny", "epochs=1", "run=my_galaxies", "trainer=cpu"]
scores = train(compose([*options, *data]))
summary = embed(compose(["model=my_galaxies", "out=my_embeddings", "device=cpu", *data], "embed"))

# %% [markdown]
# ## Similarity within and across
#
# Rows of both modalities have length 1, so a product of matrices gives all cosines.

# %%
galaxies = Embeddings.read("my_embeddings")
images = galaxies.vectors["images"]
spectra = galaxies.vectors["spectra"]
within = images @ images.T
across = images @ spectra.T
figure, panels = plt.subplots(1, 2, figsize=(7, 3))
for panel, values, title in zip(panels, (within, across), ("image and image", "image and spectrum"), strict=True):
    panel.imshow(values)
    panel.set_title(title)
plt.show()

# %% [markdown]
# ## One galaxy, the image most like it, and the spectrum most like it

# %%
source = open_source("galaxies")
split = galaxies.splits[0]
ids = source.catalogue(split).ids.tolist()
rows = source.rows[split]
chosen = [i for i, name in enumerate(galaxies.splits) if name == split]
first = chosen[0]
alike = max(chosen[1:], key=lambda i: within[first, i])
told = max(chosen, key=lambda i: across[first, i])
wanted = {i: int(rows[ids.index(galaxies.ids[i])]) for i in (first, alike, told)}
seen = {one.row: one for one in observations(source.table(split), np.unique(list(wanted.values())))}

figure, panels = plt.subplots(1, 3, figsize=(10, 3))
for panel, i, title in zip(panels, (first, alike), ("asked", "most similar image"), strict=False):
    picture = stretch(torch.from_numpy(seen[wanted[i]].image))
    panel.imshow(picture.permute(1, 2, 0).clip(0, 1))
    panel.set_title(title)
    panel.axis("off")
wavelength, flux, _ = seen[wanted[told]].spectrum
panels[2].plot(wavelength, flux, lw=0.5)
panels[2].set_title("most similar spectrum")
panels[2].set_xlabel("wavelength [Angstrom]")
plt.show()
