"""The errors that a person can act on. Any other exception is a defect."""


class ChurnError(Exception):
    """What is wrong, the values, and the next step, in one message without customer data.

    Repeating the step does not help. Where a retry may succeed, raise `Outage` instead.
    """


def require_reason(reason: str) -> str:
    """Return the reason that a person gave, stripped of surrounding blanks.

    Raises:
        ChurnError: the reason is empty.
    """
    if not reason.strip():
        raise ChurnError("The reason is empty. Give a reason: it is kept in the history.")
    return reason.strip()


class Outage(ChurnError):  # noqa: N818 -- the name says what it is
    """An external service does not answer. The same step may succeed later."""


class NothingToDo(ChurnError):  # noqa: N818 -- a skip, not a failure
    """This step has nothing to do in this run. The message says why."""
