"""The error that users are meant to read, and one-line forms of other errors."""

LONGEST_LINE = 300
"""Characters of another error's message that `one_line` keeps."""


class SrlibError(Exception):
    """Bad input or a bad environment, in one line: what is wrong, where, what was expected, how to mend it.

    Stages and the command line print the message without a traceback and exit with a status that is not 0.
    """


def one_line(error: BaseException | str, limit: int = LONGEST_LINE) -> str:
    r"""Return an error's message as one printable line, or the name of its type where it has none.

    Args:
        error: The error, or its message.
        limit: Most characters to keep; a longer message ends in `…`.

    Example:
        >>> one_line(ValueError("first line\n  second line"))
        'first line second line'
        >>> one_line(RecursionError())
        'RecursionError'
    """
    text = "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split()))
    if not text:
        return type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}…"


def printable(value: object) -> str:
    r"""Return the text of a value, such as a file's name, without what would break a line or control a terminal.

    Example:
        >>> printable("a\nb \x1b[31m é")
        'a\\nb \\x1b[31m é'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
