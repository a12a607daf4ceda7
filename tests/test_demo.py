"""The demo of `make demo`, run for real with a smaller survey."""

from pathlib import Path

import pytest
from processes import run_module

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_demo_runs_and_draws(tmp_path):
    done = run_module("experiments.demo", "data.objects=200", "epochs=1", f"root={tmp_path}", cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Simulated data" in done.stdout
    assert all((tmp_path / p).stat().st_size > 5000 for p in ("demo.png", "survey.png", "galaxies.png"))
    assert "Pictures to open" in done.stdout.splitlines()[-1]
    assert (tmp_path / "astromer1-masked-full-scratch-42" / "reconstruction.png").is_file()
