"""The one exception that a user is meant to read."""


class SrlibError(Exception):
    """Bad input or a bad environment, told in one line: what, where, what was expected, how to mend it.

    Stages and the command line print the message without a traceback and exit with a status that is not 0.
    """
