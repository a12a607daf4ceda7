"""A hub that cannot be reached, and folders of a user's own configuration that would take for ever to read."""

from __future__ import annotations

import time

import pytest
from hostile_verbs import said
from processes import free_port

from astrom3 import hub
from astrom3.cli import composing
from astrom3.cli.config import compose
from astrom3.errors import UserError
from astrom3.inference.preprocessing import hub_statistics
from astrom3.published import astroclip, astrom3

WAITS = 10  # seconds at most

PATIENT = [
    (lambda: astrom3.find("owner/name"), "the hub cannot be reached for owner/name"),
    (lambda: astroclip.find("owner/name"), "the hub cannot be reached for owner/name"),
    (lambda: hub_statistics("AstroMLCore/AstroM3-CLIP-42"), "which the hub did not give"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("fetch", "words"), PATIENT)
def test_a_hub_that_is_not_there_is_said_soon(monkeypatch, tmp_path, fetch, words):
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    start = time.monotonic()
    with pytest.raises(UserError, match=words):
        fetch()
    assert time.monotonic() - start < WAITS


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}", "http://127.0.0.1:99999", "", "http://", "nonsense"])
def test_what_is_no_address_takes_no_connection(monkeypatch, address):
    monkeypatch.setattr(hub, "getproxies", dict)
    assert not hub.takes_connections(address.format(port=free_port()), patience=0.1)


def test_a_proxy_is_asked_by_huggingface_hub_itself(monkeypatch):
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy:3128"})
    assert hub.takes_connections(f"http://127.0.0.1:{free_port()}")


def bomb(levels: int) -> str:
    """YAML of a few lines whose aliases stand for 9 ** levels values."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        inner = ", ".join([f"*l{level - 1}"] * 9)
        lines.append(f"l{level}: &l{level} [{inner}]")
    return "\n".join(lines)


@pytest.mark.parametrize(("text", "words"), [
    (bomb(9), "mine.yaml stand for more than 10000 values"), ("a: &a [*a]", "in a circle"),
    ("a: &a {b: *a}", "in a circle"), ("a: &a {<<: *a}", "in a circle"),
])  # fmt: skip
@pytest.mark.parametrize("flags", [["--config-dir", "{folder}"], ["hydra.searchpath=['file://{folder}']"]])
@pytest.mark.parametrize("more", [[], ["--cfg", "job"], ["-m"]])
def test_aliases_that_stand_for_too_much_are_refused_at_once(capsys, tmp_path, text, words, flags, more):
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text(text)
    given = [flag.format(folder=tmp_path) for flag in flags]
    start = time.monotonic()
    sentence = said(capsys, "train", [*more, *given, "optim=mine", "mode=photo", "data=simulated"])
    assert words in sentence
    assert time.monotonic() - start < 2


def test_a_few_aliases_are_taken(tmp_path):
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("defaults: [adam, _self_]\nlr: &lr 0.002\neps: *lr\n")
    cfg = compose([f"hydra.searchpath=['file://{tmp_path}']", "optim=mine", "mode=photo", "data=simulated"])
    assert cfg.optim.eps == 0.002
    composing.check_aliases(tmp_path)
