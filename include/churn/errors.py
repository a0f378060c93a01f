"""The errors that a person can act on. Any other exception is a defect."""

import re

_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line ends of any kind, what reverses the direction of text, and halves of surrogate pairs."""
_UNSTORED = re.compile(r"[\x00\ud800-\udfff]")
_LONGEST_SHOWN = 80


class ChurnError(Exception):
    """What is wrong, the values, and the next step, in one message without customer data.

    Repeating the step does not help. Where a retry may succeed, raise `Outage` instead.
    """


def shown(text: object, most: int = _LONGEST_SHOWN) -> str:
    """Return a text of somebody else as a message repeats it: on one line, cut off if it is long, and with escapes for what cannot be shown or stored."""
    letters = str(text)
    more = f"... ({len(letters):,} characters)" if len(letters) > most else ""
    return _UNSHOWN.sub(lambda odd: odd[0].encode("unicode_escape").decode(), letters[:most]) + more


def is_storable(text: str) -> bool:
    """Whether databases and files can keep a text: it has neither NUL nor half of a surrogate pair."""
    return _UNSTORED.search(text) is None


def require_storable(text: str | None, name: str) -> None:
    """Check a text that a person wrote into a form or a command.

    Raises:
        ChurnError: it has a character that cannot be stored.
    """
    if text is not None and not is_storable(text):
        raise ChurnError(
            f"The {name} has a character that cannot be stored, such as NUL: {shown(text)}. Remove it and try again."
        )


def require_reason(reason: str) -> str:
    """Return the reason that a person gave, stripped of surrounding blanks.

    Raises:
        ChurnError: the reason is empty, or has a character that cannot be stored.
    """
    require_storable(reason, "reason")
    if not reason.strip():
        raise ChurnError("The reason is empty. Give a reason: it is kept in the history.")
    return reason.strip()


class Outage(ChurnError):  # noqa: N818 -- the name says what it is
    """An external service does not answer. The same step may succeed later."""


class NothingToDo(ChurnError):  # noqa: N818 -- a skip, not a failure
    """This step has nothing to do in this run. The message says why."""
