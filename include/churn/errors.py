"""The errors that a person can act on. Everything else that is raised is a defect or an outage."""


class ChurnError(Exception):
    """What is wrong, the values, and the next step, in one message without customer data."""


class NothingToDo(ChurnError):  # noqa: N818 -- a skip, not a failure: wiring turns it into a skipped task
    """There is no work for this step tonight, and the message says why."""
