"""The errors that end a command: a user's mistake, and a gate that is not passed."""


class UserError(Exception):
    """A mistake in what the user gave: one sentence that says what is wrong, where, what is allowed and what to do.

    The command line prints the sentence and ends with status 2. From Python it is an ordinary exception.
    """


class GateError(Exception):
    """An evaluation that does not keep a threshold of its gate; what was measured is written. Ends with status 3."""
