"""One exception for everything a user can put right.

Its message is one sentence: which file, object or key; what is wrong; what to do. The verbs print it without a
traceback and exit with status 2 (`astrom3.cli`).
"""

from pathlib import Path


def shown(path: Path | str) -> str:
    """A path as logs show it: relative where it lies below this folder, with ~ for the home folder."""
    path = Path(path)
    for base, prefix in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_absolute() and path.is_relative_to(base):
            return written_out(prefix + str(path.relative_to(base)))
    return written_out(str(path))


def written_out(line: str) -> str:
    """The line with what would steer a terminal, or break the line, as Python would write it in quotes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)


class UserError(Exception):
    """Bad input, bad configuration or an unreachable resource; the message is written for the user.

    It is one line: what libraries and names of files bring along of line breaks becomes spaces.
    """

    def __init__(self, sentence: str = "", *, lines: bool = False):
        super().__init__(sentence if lines else " ".join(str(sentence).splitlines()))


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says anything; the error's class where it has none."""
    lines = []
    for line in str(error).splitlines():
        if line.strip():
            lines.append(line.strip())
    return lines[0] if lines else type(error).__name__


def printable(text: str, most: int = 1000) -> str:
    """The text with what would steer a terminal written out, line breaks excepted, and the middle of lines left out
    that have more than so many letters."""
    lines = []
    for line in text.split("\n"):
        written = written_out(line)
        half = most // 2
        lines.append(written if len(written) <= most else f"{written[:half]} ... {written[-half:]}")
    return "\n".join(lines)
