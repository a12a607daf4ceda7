"""Odd paths as values of every verb's keys: what the system refuses is one sentence, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from astrom3.cli import config
from astrom3.cli.wall import answer


def failing(path: str) -> BaseException:
    try:
        Path(path).write_text("x")
    except OSError as error:
        return error
    raise AssertionError(path)


@pytest.mark.parametrize("path", ["/proc/x", "/dev/null/x", "/tmp", "/tmp/" + 300 * "x"])
def test_what_the_system_refuses_is_one_sentence(path):
    sentence, status = answer(failing(path))
    assert status == 2 and len(sentence.splitlines()) == 1 and "Errno" not in sentence


def test_a_fault_of_ours_is_one_sentence_with_its_place():
    try:
        config.leaves_of(None).__next__()
    except AttributeError as error:
        sentence, status = answer(error)
    assert status == 1 and "config.py, line" in sentence
