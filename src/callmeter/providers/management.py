"""OpenRouter's management API: minting keys, reading, changing and deleting them, and model guardrails.

From its OpenAPI document: `/keys`, `/keys/{hash}`, `/key`, `/guardrails`. Names of keys there are not unique, lists
come in pages, and an answer that does not arrive says nothing about whether the request took effect: reading,
changing to absolute values and deleting are tried again, minting never is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import quote

from callmeter.providers.wire import Response, Transport, WireError
from callmeter.words.errors import CallmeterError, NoKey, Unavailable
from callmeter.words.instant import parse_instant
from callmeter.words.jsontext import dumps, loads
from callmeter.words.money import nano, usd

_Read = TypeVar("_Read")
_MAX_DOCUMENT = 8 * 1024 * 1024
_ATTEMPTS = 5
_LONGEST_PAUSE = 30.0
_MAX_PAGES = 1000
WINDOWS = ("daily", "weekly", "monthly")


class Unsure(Unavailable):
    """A key may have been minted: no answer came, or none that can be read."""

    code = "outcome_unknown"


class Declined(Unavailable):
    """The provider says no, and certainly nothing happened. `status` is HTTP's, 0 where nothing was sent."""

    code = "declined"

    def __init__(self, message: str, hint: str = "", *, status: int) -> None:
        super().__init__(message, hint)
        self.status = status


@dataclass(frozen=True)
class ProviderKey:
    """A key as the provider knows it. Money in nano-dollars; `limit` None is no limit; `limit_reset` is one of
    WINDOWS or empty; `usage` is of all time, the windows are the running ones in UTC. `last_used` is None where
    the provider does not say."""

    hash: str
    name: str
    disabled: bool
    limit: int | None
    limit_reset: str
    usage: int
    usage_daily: int
    usage_weekly: int
    usage_monthly: int
    created: datetime | None
    expires: datetime | None
    last_used: datetime | None

    @property
    def usage_window(self) -> int:
        """What counts against the limit: the usage in the window of its reset, or of all time."""
        by_window = {"daily": self.usage_daily, "weekly": self.usage_weekly, "monthly": self.usage_monthly}
        return by_window.get(self.limit_reset, self.usage)


@dataclass(frozen=True)
class Standing:
    """What a key learns of itself: `GET /key`. Money in nano-dollars."""

    limit: int | None
    limit_remaining: int | None
    limit_reset: str


class Management:
    """One account's keys. `secret` is a management key and goes nowhere but to `base_url`; `pause` waits between
    attempts, for so many seconds.

    Methods raise NoKey when the management key is refused, Declined for any other refusal, Unavailable when the
    provider cannot be reached or understood. `provider_time` is its clock in its last answer.
    """

    def __init__(
        self,
        transport: Transport,
        base_url: str,
        secret: str,
        *,
        pause: Callable[[float], None],
        monotonic: Callable[[], float],
        timeout: float = 20.0,
    ) -> None:
        self._transport = transport
        self._base_url = base_url.rstrip("/")
        self._secret = secret
        self._pause = pause
        self._monotonic = monotonic
        self._timeout = timeout
        self.provider_time: datetime | None = None

    def all_keys(self) -> list[ProviderKey]:
        """Every key of the account's default workspace, disabled ones too; each once, though pages may shift while
        they are read."""
        found: dict[str, ProviderKey] = {}
        read = 0
        for _ in range(_MAX_PAGES):
            page = self._patiently(_keys, "GET", f"/keys?include_disabled=true&offset={read}") or []
            for key in page:
                found[key.hash] = key
            if not page:
                return list(found.values())
            read += len(page)
        raise Unavailable(f"{self._base_url}/keys has no end")

    def key(self, hash: str) -> ProviderKey | None:
        """One key by the provider's name for it; None when there is none."""
        return self._patiently(_one, "GET", f"/keys/{quote(hash, safe='')}", absent_is_none=True)

    def mint(
        self, name: str, *, limit: int | None, reset: str = "", expires: datetime | None = None
    ) -> tuple[ProviderKey, str]:
        """A new key, and the key itself, which the provider shows only now. Sent once: raises Unsure when it is not
        known whether there is a key now."""
        fields: dict[str, object] = {
            "name": name,
            "limit": None if limit is None else usd(limit),
            "limit_reset": reset or None,
        }
        if expires is not None:
            fields["expires_at"] = f"{expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        document = self._once("POST", "/keys", fields, minting=True)
        try:
            secret = document.get("key") if isinstance(document, dict) else None
            record = _data(document)
            if not isinstance(secret, str):
                secret = record.get("key")
            if not isinstance(secret, str) or not secret or not secret.isascii() or not secret.isprintable():
                raise Unavailable(f"{self._base_url}/keys answered without a key")
            return _key(record), secret
        except Unavailable as error:
            raise Unsure(error.message, error.hint) from None

    def change(self, hash: str, fields: Mapping[str, object]) -> ProviderKey | None:
        """Set members of a key to absolute values (`limit` in USD as Decimal or None, `limit_reset`, `disabled`,
        `name`); None when there is no such key."""
        return self._patiently(_one, "PATCH", f"/keys/{quote(hash, safe='')}", fields, absent_is_none=True)

    def delete(self, hash: str) -> bool:
        """Delete a key; False when there is none (any more)."""
        return self._patiently(bool, "DELETE", f"/keys/{quote(hash, safe='')}", absent_is_none=True) is not None

    def standing(self, secret: str) -> Standing | None:
        """What an inference key learns of itself, or None when it is refused (401). One attempt. Raises Unavailable."""
        try:
            record = _data(self._once("GET", "/key", secret=secret))
        except NoKey:
            return None
        limit, remaining = record.get("limit"), record.get("limit_remaining")
        return Standing(
            None if limit is None else _amount(record, "limit"),
            None if remaining is None else _amount(record, "limit_remaining"),
            _window(record),
        )

    def guardrails(self) -> list[dict[str, object]]:
        """The account's guardrails as they are there."""
        return self._all("/guardrails")

    def assignments(self) -> list[tuple[str, str]]:
        """Which guardrails are assigned to which keys: the guardrail's id and the key's hash."""
        found = self._all("/guardrails/assignments/keys")
        return [(str(each.get("guardrail_id")), str(each.get("key_hash"))) for each in found]

    def create_guardrail(self, fields: Mapping[str, object]) -> dict[str, object]:
        """A new guardrail; sent once. It enforces nothing until it is assigned. Raises Unsure."""
        return _data(self._once("POST", "/guardrails", fields, minting=True))

    def change_guardrail(self, id: str, fields: Mapping[str, object]) -> None:
        """Set members of a guardrail to absolute values."""
        self._patiently(_data, "PATCH", f"/guardrails/{quote(id, safe='')}", fields)

    def assign_guardrail(self, id: str, hashes: Sequence[str]) -> None:
        """Assign a guardrail to keys; those that have it keep it."""
        path = f"/guardrails/{quote(id, safe='')}/assignments/keys"
        self._patiently(bool, "POST", path, {"key_hashes": list(hashes)})

    def _all(self, path: str) -> list[dict[str, object]]:
        """The records of a list that says how many there are."""
        found: list[dict[str, object]] = []
        for _ in range(_MAX_PAGES):
            page, total = self._patiently(_counted, "GET", f"{path}?limit=100&offset={len(found)}") or ([], 0)
            found += page
            if not page or len(found) >= total:
                return found
        raise Unavailable(f"{self._base_url}{path} has no end")

    def _patiently(
        self,
        read: Callable[[object], _Read],
        method: str,
        path: str,
        fields: Mapping[str, object] | None = None,
        *,
        absent_is_none: bool = False,
    ) -> _Read | None:
        """Ask until there is an answer that can be read, for what can be asked twice."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return read(self._once(method, path, fields))
            except Declined as error:
                if error.status == 404 and absent_is_none:
                    return None
                if error.status not in (0, 408, 429) or attempt == _ATTEMPTS:
                    raise
                self._pause(_after(error, attempt))
            except Unavailable as error:
                if attempt == _ATTEMPTS:
                    raise
                self._pause(_after(error, attempt))
        raise AssertionError("the last attempt returns or raises")

    def _once(
        self,
        method: str,
        path: str,
        fields: Mapping[str, object] | None = None,
        *,
        secret: str | None = None,
        minting: bool = False,
    ) -> object:
        """One request. A 4xx is Declined, for certainly nothing happened; so is a connection that did not come
        about. Everything else that is no answer is Unsure while minting, else Unavailable."""
        url = self._base_url + path
        what = f"{method} {url.partition('?')[0]}"
        uncertain = Unsure if minting else Unavailable
        headers = {
            "Accept": "application/json",
            "Authorization": f"Bearer {self._secret if secret is None else secret}",
        }
        body = b""
        if fields is not None:
            headers["Content-Type"] = "application/json"
            body = dumps(dict(fields)).encode("ascii")
        try:
            response = self._transport.send(
                method,
                url,
                headers,
                body,
                connect_timeout=min(10.0, self._timeout),
                deadline=self._monotonic() + self._timeout,
            )
            try:
                text = _read(response, what)
            finally:
                response.close()
        except WireError as error:
            if not error.sent:
                raise Declined(f"cannot reach {url.partition('?')[0]}: {error.message}", status=0) from None
            raise uncertain(f"no answer to {what}: {error.message}", code=error.kind) from None
        except Unavailable as error:
            raise uncertain(error.message) from None
        self._note_time(response)
        status = response.status
        if 200 <= status < 300:
            try:
                return loads(text, lenient=True)
            except ValueError:
                raise uncertain(f"{what} was not answered with JSON") from None
        said = _reason(text)
        for key in (self._secret, secret):  # some endpoints quote the key that they refuse
            said = said.replace(key, "***") if key else said
        told: CallmeterError
        if status == 401:
            told = NoKey(f"{what}: the key is refused{said}", code="key_refused")
        elif status == 403:
            told = NoKey(f"{what}: this key may not do that{said}", code="key_refused")
        elif 400 <= status < 500:
            told = Declined(f"{what} was declined with status {status}{said}", status=status)
        else:
            told = uncertain(f"{what} was answered with status {status}{said}")
        wait = response.headers.get("retry-after", "")
        if wait.isascii() and wait.isdigit():
            told.details["retry_after"] = min(int(wait[:9]), int(_LONGEST_PAUSE))
        raise told

    def _note_time(self, response: Response) -> None:
        try:
            self.provider_time = parsedate_to_datetime(response.headers.get("date", "")).astimezone(UTC)
        except (ValueError, TypeError, IndexError, OverflowError):
            self.provider_time = None


def _read(response: Response, what: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    for chunk in response.chunks():
        parts.append(chunk)
        size += len(chunk)
        if size > _MAX_DOCUMENT:
            raise Unavailable(f"{what} was answered with more than {_MAX_DOCUMENT} bytes")
    return b"".join(parts)


def _after(error: CallmeterError, attempt: int) -> float:
    said = error.details.get("retry_after")
    return float(said) if isinstance(said, int) else min(_LONGEST_PAUSE, 0.5 * 2.0 ** (attempt - 1))


def _reason(text: bytes) -> str:
    """What the provider says about a refusal; never what was sent to it."""
    try:
        document = loads(text, lenient=True)
    except ValueError:
        return ""
    error = document.get("error") if isinstance(document, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return f": {message[:300]}" if isinstance(message, str) and message else ""


def _data(document: object) -> dict[str, object]:
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, dict):
        raise Unavailable("the provider's answer has no `data`")
    return data


def _list(document: object) -> list[object]:
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        raise Unavailable("the provider's answer has no list in `data`")
    return data


def _counted(document: object) -> tuple[list[dict[str, object]], int]:
    page = [each for each in _list(document) if isinstance(each, dict)]
    total = document.get("total_count") if isinstance(document, dict) else None
    if not isinstance(total, int):
        raise Unavailable("the provider's answer does not say how many there are in `total_count`")
    return page, total


def _one(document: object) -> ProviderKey:
    return _key(_data(document))


def _keys(document: object) -> list[ProviderKey]:
    return [_key(record) for record in _list(document)]


def _key(record: object) -> ProviderKey:
    if not isinstance(record, dict) or not isinstance(record.get("hash"), str) or not record["hash"]:
        raise Unavailable("the provider's answer holds a key without `hash`")
    return ProviderKey(
        hash=record["hash"],
        name=_text(record, "name"),
        disabled=record.get("disabled") is True,
        limit=None if record.get("limit") is None else _amount(record, "limit"),
        limit_reset=_window(record),
        usage=_amount(record, "usage"),
        usage_daily=_amount(record, "usage_daily"),
        usage_weekly=_amount(record, "usage_weekly"),
        usage_monthly=_amount(record, "usage_monthly"),
        created=_instant(record, "created_at"),
        expires=_instant(record, "expires_at"),
        last_used=_instant(record, "last_used_at"),
    )


def _text(record: Mapping[str, object], name: str) -> str:
    value = record.get(name)
    return value if isinstance(value, str) else ""


def _window(record: Mapping[str, object]) -> str:
    value = _text(record, "limit_reset")
    return value if value in WINDOWS else ""


def _amount(record: Mapping[str, object], name: str) -> int:
    """Nano-dollars; 0 where it is missing. Raises Unavailable for what is no amount: a ceiling must not be guessed."""
    value = record.get(name, 0)
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        try:
            return nano(Decimal(value))
        except ValueError:
            pass
    raise Unavailable(f"the provider's answer has a `{name}` that is no amount")


def _instant(record: Mapping[str, object], name: str) -> datetime | None:
    try:
        return parse_instant(_text(record, name)) if record.get(name) else None
    except ValueError:
        return None
