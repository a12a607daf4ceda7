"""Imported by the server of tests/processes.py: what nearly every command does first, so that its copies need not.

A configuration is composed, a figure drawn, numba's table of functions filled. Each is the same in every process, and
together they take more time than the training of a tiny run.
"""

import io

from matplotlib.figure import Figure
from numba.core.registry import cpu_target

from astrom3.cli.config import compose

for mode in ("clip", "meta"):
    compose([f"mode={mode}", "size=tiny", "data=simulated", "data.objects=240", "trainer=cpu", "root=runs"])

cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()

figure = Figure()
axes = figure.subplots()
axes.plot([0, 1], [1, 10], label="a line")
axes.set_yscale("log")
axes.legend()
figure.savefig(io.BytesIO(), format="png")
