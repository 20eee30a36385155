"""Mail by the local sendmail: one letter, as text and as HTML (RFC 2046, multipart/alternative).

sendmail's command line is what every mail system of Unix offers (Postfix, Exim, OpenSMTPD, msmtp, nullmailer). The
addresses go there as arguments and not into `-t`, so that headers decide nothing; what comes from the log, such as
names of agents, stands in the bodies only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

from callmeter.words.errors import Unavailable, UsageError

_SECONDS = 60
# Beside PATH: cron's is short, and Debian keeps sendmail where only root looks.
_PLACES = ("/usr/sbin", "/usr/lib")
# What a mail program may need, and nothing that could be a key.
_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_LONGEST = 254
# Of what RFC 5322 allows in a name, what no mail system takes for anything else (a pipe, a file, a route).
_MARKS = "._+=-"


@dataclass(frozen=True)
class Letter:
    """`sender` is the local user's name and host; `at` is when it is written."""

    sender: tuple[str, str]
    to: Sequence[str]
    subject: str
    text: str
    html: str
    at: datetime


def check_address(address: str) -> None:
    """Raises UsageError for what is not plainly one address (`team@example.org`, or a local user's name)."""
    user, at, domain = address.partition("@")
    marks = str.maketrans("", "", _MARKS)
    plain = address.isascii() and len(address) <= _LONGEST and user[:1].isalnum()
    plain = plain and user.translate(marks).isalnum() and ".." not in user and not user.endswith(".")
    if at:
        labels = domain.split(".")
        plain = plain and all(
            label.replace("-", "").isalnum() and not label.startswith("-") and not label.endswith("-")
            for label in labels
        )
    if not plain:
        raise UsageError(
            f"--mail-to {address!r} is not one plain address",
            "write `--mail-to team@example.org`, and the option again for another one",
            code="bad_address",
        )


def find_sendmail(env: Mapping[str, str]) -> str:
    """The path of sendmail, from PATH or where it usually lies. Raises Unavailable."""
    for directory in [*env.get("PATH", os.defpath).split(os.pathsep), *_PLACES]:
        path = os.path.join(directory, "sendmail")
        if os.path.isabs(directory) and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise Unavailable(
        "there is no sendmail on this machine",
        "install a mail program that has one, such as msmtp-mta or postfix, or use `--out FILE`",
        code="no_sendmail",
    )


def message_of(letter: Letter) -> bytes:
    """The letter as it is handed over. Lines of a header cannot be forged: each is checked by the library, and the
    texts' control characters are gone before."""
    user, host = (_plain(part) for part in letter.sender)
    message = EmailMessage(policy=policy.SMTP.clone(linesep="\n", max_line_length=78))
    message["From"] = Address("callmeter", user or "callmeter", host or "localhost")
    message["To"] = ", ".join(letter.to)
    message["Subject"] = "".join(character for character in letter.subject if character.isprintable())
    message["Date"] = format_datetime(letter.at)
    message["Message-ID"] = make_msgid(domain=host or "localhost")
    # RFC 3834: no vacation notice answers it.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text, cte="quoted-printable")
    message.add_alternative(letter.html, subtype="html", cte="quoted-printable")
    return message.as_bytes()


def send(program: str, letter: Letter, env: Mapping[str, str]) -> None:
    """Hand a letter to sendmail. Raises Unavailable when it cannot be started, fails, or takes longer than a minute."""
    import signal
    import subprocess

    variables = {name: env[name] for name in _VARIABLES if name in env}
    try:
        child = subprocess.Popen(
            [program, "-i", "--", *letter.to],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=variables,
            start_new_session=True,
        )
    except OSError as error:
        raise _failed(program, f"cannot be started: {(error.strerror or str(error)).lower()}") from None
    try:
        _, said = child.communicate(message_of(letter), timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise _failed(program, f"took longer than {_SECONDS} s") from None
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.returncode:
        reason = said.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise _failed(program, f"ended with status {child.returncode}{': ' + reason[0][:200] if reason else ''}")


def _failed(program: str, what: str) -> Unavailable:
    return Unavailable(
        f"the review was not mailed: {program} {what}",
        "look at the mail system's log, then run the same command again",
        code="not_mailed",
    )


def _plain(text: str) -> str:
    """A name as it may stand in an address without quotes."""
    return "".join(each for each in text if each.isascii() and (each.isalnum() or each in ".-_")).strip(".")
