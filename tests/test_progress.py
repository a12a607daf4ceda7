"""A long step without a terminal says every so often how far it is, even while one piece of work takes long."""

import logging
import time
from pathlib import Path

import pytest

from astrom3 import progress as module
from astrom3.progress import Lines, progress, spoken


def test_lines_come_while_one_piece_takes_long(monkeypatch, caplog):
    monkeypatch.setattr(module, "EVERY", 0.05)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    with caplog.at_level(logging.INFO), progress("converting", 100) as advance:
        advance(25)
        deadline = time.monotonic() + 20
        while len(caplog.messages) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
    assert len(caplog.messages) >= 3
    assert all(text.startswith("converting: 25 of 100 objects after") for text in caplog.messages)
    count = len(caplog.messages)
    time.sleep(0.2)
    assert len(caplog.messages) == count  # the thread has ended


def test_a_short_step_says_nothing_and_an_error_goes_through(monkeypatch, caplog):
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    with caplog.at_level(logging.INFO), pytest.raises(ValueError), progress("x", 3):
        raise ValueError
    assert not caplog.messages


def test_what_a_line_says():
    lines = Lines("embedding", 1200, "objects")
    assert lines.line(30.0) == "embedding: 0 of 1,200 objects after 30 s"
    lines.advance(300)
    assert lines.line(30.0) == "embedding: 300 of 1,200 objects after 30 s, 10 per second, about 90 s left".replace(
        "90 s", "2 min"
    )
    assert Lines("reading", None, "tables").line(120.0) == "reading: 0 tables after 2 min"
    assert [spoken(s) for s in (40, 600, 7200)] == ["40 s", "10 min", "2.0 h"]


def test_every_epoch_of_a_run_without_a_terminal_has_its_lines(monkeypatch, caplog):
    """The callback of training, driven as Lightning drives it."""
    from types import SimpleNamespace

    from astrom3.training.callbacks import StepLines, standard_callbacks

    monkeypatch.setattr(module, "EVERY", 0.02)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    trainer = SimpleNamespace(is_global_zero=True, current_epoch=2, num_training_batches=7, num_test_batches=[3])
    lines = StepLines()
    with caplog.at_level(logging.INFO):
        lines.on_train_epoch_start(trainer, None)
        lines.on_train_batch_end(trainer, None, None, None, 0)
        deadline = time.monotonic() + 20
        told = "epoch 3: 1 of 7 batches"
        while not any(text.startswith(told) for text in caplog.messages) and time.monotonic() < deadline:
            time.sleep(0.02)
        lines.on_train_epoch_end(trainer, None)
    assert any(text.startswith(told) for text in caplog.messages)
    kinds = [type(callback) for callback in standard_callbacks(Path("r"), "val/loss", 3, False)]
    assert kinds[0] is StepLines
