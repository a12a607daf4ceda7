"""The verbs with the least of a command line, and the sentence that a refused one ends with."""

from __future__ import annotations

import pytest

from astrom3.cli.verbs import run_verb


def said(capsys, verb: str, arguments: list[str]) -> str:
    """The one sentence that a verb ends with."""
    with pytest.raises(SystemExit) as end:
        run_verb(verb, lambda cfg: pytest.fail("the verb was called"), arguments)
    text = capsys.readouterr().err.strip()
    assert end.value.code == 2, text
    assert text.startswith(f"astrom3 {verb}: ") and "Traceback" not in text
    assert len(text.splitlines()) == 1, text
    return text
