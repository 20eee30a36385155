"""The one error type, and the exit statuses it can carry.

An error says what and where, in lower case, without a full stop; its hint is a command to run or a setting
to change, in backticks. The class decides the exit status. `cli/main.py` is the one place that prints it.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What a script can branch on. The texts are shown in every help page, in one line each, and man page."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Exit:
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    DONE = 0, "done"
    FAILED = 1, "unexpected failure"
    USAGE = 2, "wrong command line, or a call without its required tags"
    REFUSED = 3, "no, for now: a quota, key limit, model list, freeze or failed check"
    APPROVAL = 4, "approval is needed; the request's id is printed"
    MALFORMED = 5, "malformed policy, settings, log or import"
    NO_KEY = 6, "no usable key"
    UNAVAILABLE = 7, "the provider, secret store or database failed or refused, after retries"
    BUSY = 8, "busy: calls in flight, a rate limit or a lock; the error says how long"
    INCOMPLETE = 9, "an answer came, but incomplete: cut off, or not in the shape asked for"
    INTERRUPTED = 130, "interrupted by Ctrl-C; the call was stopped and logged first"
    PIPE_CLOSED = 141, "the reader of stdout went away; the call was stopped and logged first"
    TERMINATED = 143, "terminated; the call was stopped and logged first"


class CallmeterError(Exception):
    """Something a person or a script can act on.

    `hint` is one sentence: a command to run or a setting to change. `details` are extra members of the JSON
    form (`limit`, `current_usage`, `retry_after`, …); their values must be JSON values or Decimal.
    """

    exit_status = Exit.FAILED
    code = "failed"

    def __init__(self, message: str, hint: str = "", code: str = "", **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details
        if code:
            self.code = code

    def as_json(self) -> dict[str, object]:
        """The error as a JSON object (`docs/formats.md`)."""
        return {
            "error": self.code,
            "message": self.message,
            "hint": self.hint or None,
            "exit_status": int(self.exit_status),
            **self.details,
        }


class UsageError(CallmeterError):
    """The command line or a tag is wrong; nothing was done."""

    exit_status = Exit.USAGE
    code = "usage"


class Refused(CallmeterError):
    """No, for now: a limit, a model list, a check."""

    exit_status = Exit.REFUSED
    code = "refused"


class ApprovalNeeded(CallmeterError):
    """Somebody has to approve first; `details["request"]` is the request's id."""

    exit_status = Exit.APPROVAL
    code = "approval_needed"


class Malformed(CallmeterError):
    """A file that callmeter reads is not what it should be."""

    exit_status = Exit.MALFORMED
    code = "malformed"


class NoKey(CallmeterError):
    """There is no key for this call, or the provider does not accept it."""

    exit_status = Exit.NO_KEY
    code = "no_key"


class Unavailable(CallmeterError):
    """The provider, a store or a database failed or said no."""

    exit_status = Exit.UNAVAILABLE
    code = "unavailable"


class Busy(CallmeterError):
    """Try again in `retry_after` seconds."""

    exit_status = Exit.BUSY
    code = "busy"


class Incomplete(CallmeterError):
    """An answer came, but not all of it, or not in the shape that was asked for."""

    exit_status = Exit.INCOMPLETE
    code = "incomplete"


class Stopped(BaseException):
    """The caller asked for an end: SIGTERM, or stdout's reader went away. Printed as nothing. It is no CallmeterError,
    so that nothing that tells of a problem and goes on takes it for one."""

    code = "stopped"

    def __init__(self, exit_status: Exit) -> None:
        super().__init__(exit_status.meaning)
        self.exit_status = exit_status
