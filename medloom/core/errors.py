"""The errors that end a command: invalid input, and a failed quality gate."""


class UserError(Exception):
    """Invalid input: one sentence that states the fault, its location, the allowed values and the remedy.

    The command line prints the sentence and ends with status 2. In Python it is an ordinary exception.

    Examples:
        >>> import medloom
        >>> try:
        ...     medloom.read_manifest("mine.csv")
        ... except medloom.UserError as error:
        ...     print(str(error).partition(";")[0])
        mine.csv does not exist
    """


class GateError(Exception):
    """An evaluation that fails a threshold of its gate; the results are written. Ends with status 3."""
