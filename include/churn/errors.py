"""The errors that a person can act on. Everything else that is raised is a defect."""


class ChurnError(Exception):
    """What is wrong, the values, and the next step, in one message without customer data.

    Repeating the step would not help; `Outage` is for what it would.
    """


def stated(reason: str) -> str:
    """A person's reason, without the blanks around it.

    Raises:
        ChurnError: there is none.
    """
    if not reason.strip():
        raise ChurnError("A reason is needed, and this one is empty. Say why: it stays in the history.")
    return reason.strip()


class Outage(ChurnError):  # noqa: N818 -- it says what it is
    """Something outside does not answer; the same step may succeed a little later."""


class NothingToDo(ChurnError):  # noqa: N818 -- a skip, not a failure
    """There is no work for this step tonight, and the message says why."""
