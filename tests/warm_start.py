"""Imported by the server of tests/processes.py: what every command of a test composes, its grammar, is ready there."""

from astrom3.cli.config import compose

for mode in ("clip", "meta"):
    compose([f"mode={mode}", "size=tiny", "data=simulated", "data.objects=240", "trainer=cpu", "root=runs"])
