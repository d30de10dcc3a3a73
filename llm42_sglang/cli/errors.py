"""What a user can get wrong."""


class UserError(Exception):
    """A mistake or a lack outside this program. Its text is one line: what is wrong, what to do.

    `main` prints the text without a traceback and ends the process with `status`.
    """

    status = 1


class UsageError(UserError):
    """The command line names something that does not exist or is not what it should be."""

    status = 2
