"""The past that a forecast rests on, with what the usage log is known to have lost of it."""

from __future__ import annotations

import os
from datetime import datetime

from callmeter.reports.forecast_history import Present
from callmeter.reports.lost_days import has_quiet_days
from callmeter.reports.usage import Usage
from callmeter.store.log_losses import find_losses
from callmeter.store.places import Places
from callmeter.words.errors import CallmeterError


def past_of(usage: Usage, now: datetime, places: Places, *, own: bool) -> Present:
    """What is known at `now`; `own` is whether the usage is that of the log in `places`. An audit log that cannot be
    read tells of no losses."""
    audits = {os.path.dirname(os.path.abspath(places.log)): places.audit} if own else {}
    try:
        losses = find_losses(usage.reading, audits, lambda: has_quiet_days(usage, now))
    except CallmeterError:
        losses = []
    return Present(usage, now, losses)
