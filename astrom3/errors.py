"""One exception for everything a user can put right.

Its message is one sentence: which file, object or key; what is wrong; what to do. The verbs print it without a
traceback and exit with status 2 (`astrom3.cli`).
"""


class UserError(Exception):
    """Bad input, bad configuration or an unreachable resource; the message is written for the user."""
