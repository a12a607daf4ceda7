# ---
# jupyter:
#   kernelspec: {name: python3, display_name: Python 3, language: python}
# ---

# %% [markdown]
# # From your own light curves to classes
#
# You have a table of observations and a class for some of the stars. This page makes a classifier of them, looks at
# how sure it is, and classifies a star that it has not seen. Astromer reads the curves as they are, so no period is
# needed. With a few hundred real stars, take `size=small` and 30 epochs.

# %%
import logging

import matplotlib.pyplot as plt
import numpy as np

import astrom3
from astrom3.cli.config import compose
from astrom3.convert.__main__ import convert
from astrom3.train import train

logging.basicConfig(level=logging.WARNING)

# %% [markdown]
# ## Two tables
#
# The observations have one row for each point, and the stars one row for each star. Here both are made up: pulsators
# and eclipsing binaries.

# %%
draws = np.random.default_rng(0)


def observe(kind: str, points: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Times [day] and magnitudes of a star."""
    time = np.sort(draws.uniform(58000, 58060, points))
    phase = time / draws.uniform(2, 20) % 1
    if kind == "RR":
        shape = 0.5 * (phase - 0.5)
    else:
        shape = 0.8 * (np.abs(phase - 0.5) < 0.08)
    return time, 15 + shape + draws.normal(0, 0.03, points)


with open("observations.csv", "w") as long, open("stars.csv", "w") as stars:
    long.write("star,mjd,mag,magerr\n")
    stars.write("star,class\n")
    for number in range(60):
        kind = "RR" if number % 2 else "EA"
        stars.write(f"{number},{kind}\n")
        for t, m in zip(*observe(kind), strict=True):
            long.write(f"{number},{t:.5f},{m:.4f},0.03\n")

# %% [markdown]
# ## Convert
#
# `convert` says which columns it took. Magnitudes without a zero point become relative fluxes, which is all that
# Astromer needs. Features such as the period are left out.

# %%
columns = ["id=star", "label=class", "classes=all", "light_curves.columns.id=star", "features=none", "workers=1"]
summary = convert(compose(["table=stars.csv", "observations=observations.csv", "out=my_data", *columns], "convert"))
summary["objects"], summary["classes"]

# %% [markdown]
# ## Train

# %%
data = ["data=local", "data.path=my_data", "trainer=cpu"]
scores = train(
    compose(["model=astromer2", "mode=photo", "size=tiny", "epochs=3", "run=my_run", "optim.lr=0.003", *data])
)
scores["accuracy"]

# %% [markdown]
# ## A new star
#
# `classify` takes arrays, a file, an astropy or pandas table, or a LightCurve of lightkurve.

# %%
model = astrom3.load("my_run")
time, mag = observe("EA")
curve = {"time": time, "mag": mag, "mag_err": np.full(len(time), 0.03)}
found = model.classify(light_curve=curve, ids=["new star"])
found.to_csv("classes.csv")

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.6), width_ratios=(3, 1))
left.errorbar(time, mag, 0.03, fmt=".")
left.invert_yaxis()
left.set_xlabel("time [d]")
left.set_ylabel("magnitude")
right.bar(found.classes, found.probabilities[0])
right.set_ylabel("probability")
figure.tight_layout()
plt.show()
