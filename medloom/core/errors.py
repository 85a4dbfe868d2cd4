"""The error that a user's mistake raises."""


class UserError(Exception):
    """A mistake in what the user gave: one sentence that says what is wrong, where, what is allowed and what to do.

    The command line prints the sentence and ends with status 2. From Python it is an ordinary exception.
    """
