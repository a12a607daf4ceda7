"""The page at /: what the model is, what it reads, and a command to try."""

from __future__ import annotations

import html
import json

from astrom3.inference.objects import kinds_of
from astrom3.inference.trained import TrainedModel
from astrom3.serve.request import Limits

EXAMPLES = {
    "light_curve": {"time": [2457000.1, 2457002.3, 2457005.8], "flux": [10.2, 11.9, 10.8], "flux_err": [0.1, 0.1, 0.1]},
    "spectrum": {"wavelength": [3700.0, 3701.0, 3702.0], "flux": [98.0, 101.0, 99.5], "ivar": [1.2, 1.3, 1.2]},
    "metadata": {"period": 0.56, "mean_vmag": 13.1},
    "image": {"g": [[0.1, 0.2]], "r": [[0.3, 0.2]], "z": [[0.4, 0.5]]},
}
ABOUT = {
    "light_curve": "time [day], flux and flux_err [mJy], or mag and mag_err with system or zero_point in the request",
    "spectrum": "wavelength [Angstrom, vacuum; in air with air in the request], flux, and ivar or flux_err",
    "metadata": "columns of the catalogue by name, null where one is not known",
    "image": "planes g, r and z [nanomaggies], each a list of rows",
}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}}
pre{{background:#f2f2f2;padding:.8rem;overflow-x:auto;font-size:13px}}</style></head>
<body><h1>{title}</h1>
<p>{what}</p>
<h2>What it reads</h2><ul>{inputs}</ul>
<h2>Try it</h2><p>The points below only show the form. A real light curve has dozens.</p><pre>{command}</pre>
<h2>Limits</h2><p>{limits}</p>
<p><a href="health">health</a> · <a href="metrics">metrics</a></p>
</body></html>
"""


def index_page(model: TrainedModel, limits: Limits, address: str) -> str:
    """HTML. address: of the server, as the client knows it."""
    if model.has_head:
        calibrated = "calibrated" if model.confidence is not None else "not calibrated"
        what = f"POST /classify gives probabilities ({calibrated}) of {len(model.classes)} classes: "
        what += f"{', '.join(model.classes)}. POST /embed gives embeddings of {model.width} numbers."
    else:
        what = f"POST /embed gives embeddings of {model.width} numbers. The model has no classes."
    kinds = kinds_of(model)
    items = "".join(f"<li><code>{kind}</code>: {html.escape(ABOUT[kind])}</li>" for kind in kinds)
    example = {"objects": [{"id": "my star"} | {kind: EXAMPLES[kind] for kind in kinds}]}
    path = "/classify" if model.has_head else "/embed"
    command = f"curl -s {address}{path} -d '{json.dumps(example)}'"
    bounds = (
        f"A request has at most {limits.objects} objects and {limits.body / 2**20:g} MB, a light curve or spectrum "
    )
    bounds += f"at most {limits.points} points, and an image {limits.pixels} pixels along a side."
    return PAGE.format(
        title=html.escape(f"astrom3: {model.name}"),
        what=html.escape(what),
        inputs=items,
        command=html.escape(command),
        limits=html.escape(bounds),
    )
