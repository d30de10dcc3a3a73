"""What a user can get wrong."""


class UserError(Exception):
    """A mistake or a lack outside this program. Its text is one line: what is wrong, what to do.

    `llm42` prints the text without a traceback and leaves with `status`: 1, or 2 from commands
    whose status 1 is a verdict.
    """

    status = 1
