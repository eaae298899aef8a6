"""The one error a user can mend: the command line prints its line and exits with code 2."""


class UsageError(ValueError):
    """Says in one line what was given, what is allowed and what to do."""
