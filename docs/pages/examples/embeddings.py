# ---
# jupyter:
#   kernelspec: {name: python3, display_name: Python 3, language: python}
# ---

# %% [markdown]
# # Neighbours, outliers and a map
#
# An embedding is a list of numbers that puts similar objects side by side. This page pre-trains a tiny model on the
# simulated survey without looking at a single label, then asks which stars are alike, which are alone, and draws a map.

# %%
import logging

import matplotlib.pyplot as plt
import numpy as np

from astrom3.analyse.isolation import isolation
from astrom3.cli.config import compose
from astrom3.embed.__main__ import embed
from astrom3.inference.embeddings import Embeddings
from astrom3.inference.neighbours import nearest
from astrom3.train import train

logging.basicConfig(level=logging.WARNING)
data = ["data=simulated", "data.objects=120", "data.root=simulated", "data.cache=cache"]

# %%
scores = train(compose(["mode=clip", "size=tiny", "epochs=2", "run=my_clip", "trainer=cpu", *data]))
summary = embed(compose(["model=my_clip", "out=my_embeddings", "device=cpu", *data], "embed"))
summary["objects"]

# %% [markdown]
# ## Neighbours
#
# The embeddings are parquet, and `Embeddings` reads them. `mean` is the average over the modalities of an object.

# %%
stars = Embeddings.read("my_embeddings")
near, cosine = nearest(stars.vectors["mean"], 3)
for row in range(3):
    print(
        stars.ids[row],
        "is like",
        [(str(stars.ids[i]), f"{c:.3f}") for i, c in zip(near[row], cosine[row], strict=True)],
    )

# %% [markdown]
# ## Outliers
#
# The mean distance to the twenty nearest others says how alone an object is.

# %%
distance, _ = isolation(stars, "mean")
lonely = np.argsort(-distance)[:5]
[(str(stars.ids[i]), round(float(distance[i]), 4)) for i in lonely]

# %% [markdown]
# ## A map
#
# Two principal components are enough to see structure. `python -m astrom3.explore` makes a page of it in which you
# click a star and see its light curve.

# %%
centred = stars.vectors["mean"] - stars.vectors["mean"].mean(0)
_, _, axes = np.linalg.svd(centred, full_matrices=False)
xy = centred @ axes[:2].T
figure, axis = plt.subplots(figsize=(5, 4))
names = np.array([*stars.classes, "no label"])[stars.labels]
for name in np.unique(names):
    axis.scatter(*xy[names == name].T, s=12, label=name)
axis.scatter(*xy[lonely].T, s=60, facecolors="none", edgecolors="k", label="most alone")
axis.legend(fontsize=7, ncols=2)
plt.show()
