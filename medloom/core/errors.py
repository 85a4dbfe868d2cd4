"""The errors that end a command: invalid input, and a failed quality gate."""

# Characters of a library's message in a sentence of our own.
LONGEST = 300


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


class UnwrittenError(UserError):
    """What could not be written for want of space: the same again may succeed."""


class GateError(Exception):
    """An evaluation that fails a threshold of its gate; the results are written. Ends with status 3."""


def first_line(error: Exception) -> str:
    """The first line of another library's message, without its full stop; its type where it says nothing.

    One that ends in a colon is only a heading, and the next line belongs to it.
    """
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    joined = " ".join(lines[: 2 if lines[0].endswith(":") else 1]).rstrip(".:")
    # The second line may list thousands of names.
    return joined if len(joined) <= LONGEST else f"{joined[:LONGEST]}..."
