"""Keys in AWS Secrets Manager: `aws-sm:NAME`, or `aws-sm:ARN`.

The slots are staging labels on versions of one secret: AWSCURRENT, AWSPENDING, AWSPREVIOUS. A swap moves AWSCURRENT
from the version that was looked at to the new one, and is refused when that version no longer has it; AWSPREVIOUS
follows by itself. A version's id is made from its key, so that a request whose answer was lost can be repeated.
Region, account and credentials are those of the AWS tools: AWS_REGION, AWS_PROFILE, ~/.aws, an instance's role.

Facts (boto3 1.44, moto 5.2): without a stage, moto gives the old secret after a swap, so each read names one; a label
moved a second time is InvalidParameterException, so its place is looked up first.
"""

from __future__ import annotations

import hashlib
from typing import Any

from callmeter.secrets.deadline import in_time
from callmeter.secrets.secret import Secret, parse_secret
from callmeter.secrets.store import CURRENT, PENDING, PREVIOUS, conflict, library_missing, require_slot
from callmeter.words.errors import NoKey, Unavailable
from callmeter.words.origin import leads_here, origin_of

try:
    import boto3  # type: ignore[import-untyped, unused-ignore]
    from botocore.config import Config  # type: ignore[import-untyped, unused-ignore]
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped, unused-ignore]
except ImportError:
    raise library_missing("AWS Secrets Manager", "aws") from None

_STAGES = {CURRENT: "AWSCURRENT", PENDING: "AWSPENDING", PREVIOUS: "AWSPREVIOUS"}
_DENIED = (
    "403",
    "AccessDeniedException",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
)
_EXPIRED = ("ExpiredTokenException", "ExpiredToken", "RequestExpired")


class AwsStore:
    """Keys in the Secrets Manager of one account and region."""

    writable = True

    def __init__(self) -> None:
        self._made: Any = None

    def read(self, name: str, slot: str = CURRENT) -> Secret | None:
        """The key with the slot's label, or None."""
        return self._value(name, VersionStage=_STAGES[slot])

    def write(self, name: str, secret: Secret, slot: str = CURRENT) -> None:
        """Put a version with the slot's label; the key before becomes the previous one, as AWS has it."""
        require_slot(slot)
        self._holders(name)
        if not self._put(name, secret, slot):
            self._create(name, secret)

    def swap(self, name: str, old: Secret | None, new: Secret) -> None:
        """Move AWSCURRENT to `new`, from the version in which `old` was seen."""
        before = self._holders(name).get(_STAGES[CURRENT])
        current = self._value(name, VersionId=before) if before else None
        if current != new:
            if current != old:
                raise conflict(self.describe(name))
            if before is None:
                if not self._create(name, new) and self.read(name) != new:
                    raise conflict(self.describe(name))
                return
            self._move(name, _STAGES[CURRENT], self._version_of(name, new), before)
        if self.read(name, PENDING) == new:
            self.delete(name, PENDING)

    def delete(self, name: str, slot: str | None = None) -> bool:
        """Without a slot the secret goes at once, without a time in which it can be restored. A slot loses its label;
        AWS removes the version without one in its own time."""
        holders = self._holders(name, changing=False)
        if slot is None:
            if not holders:
                return False
            self._ask(name, "delete_secret", ForceDeleteWithoutRecovery=True)
            return True
        holder = holders.get(_STAGES[slot])
        if holder is None:
            return False
        # Refused where another version has taken the label since: it is not the one that was to lose it.
        self._ask(
            name,
            "update_secret_version_stage",
            absent=("InvalidParameterException", "ResourceNotFoundException"),
            VersionStage=_STAGES[slot],
            RemoveFromVersionId=holder,
        )
        return True

    def describe(self, name: str) -> str:
        """The secret's name."""
        return f"{name} in AWS Secrets Manager"

    def _value(self, name: str, **which: Any) -> Secret | None:
        found = self._ask(
            name, "get_secret_value", absent=("ResourceNotFoundException", "InvalidRequestException"), **which
        )
        if found is None:
            return None
        text = found.get("SecretString")
        if text is None:
            raise NoKey(f"the key at {self.describe(name)} is not text", "store it as a string", code="bad_key")
        return parse_secret(text.encode("utf-8", "replace"), f"at {self.describe(name)}")

    def _holders(self, name: str, *, changing: bool = True) -> dict[str, str]:
        """The id of the version that has each label; nothing when there is no such secret. Raises Unavailable when it
        is to be changed and waits for its deletion."""
        found = self._ask(name, "describe_secret", absent=("ResourceNotFoundException",)) or {}
        if found.get("DeletedDate"):
            if changing:
                raise _refusal(f"AWS Secrets Manager ({name})", "put_secret_value", "InvalidRequestException", 400)
            return {}
        versions = found.get("VersionIdsToStages") or {}
        return {stage: version for version, stages in versions.items() for stage in stages}

    def _version_of(self, name: str, secret: Secret) -> str:
        """A version that holds a key: the pending or previous one, or a new one, which then is pending."""
        holders = self._holders(name)
        for slot in (PENDING, PREVIOUS):
            if self.read(name, slot) == secret and _STAGES[slot] in holders:
                return holders[_STAGES[slot]]
        self._put(name, secret, PENDING)
        return _token(name, secret)

    def _put(self, name: str, secret: Secret, slot: str) -> bool:
        """Put a version and see to its label. False when there is no such secret."""
        put = self._ask(
            name,
            "put_secret_value",
            absent=("ResourceNotFoundException",),
            secret=secret,
            VersionStages=[_STAGES[slot]],
        )
        if put is None:
            return False
        # A key that was put before is not put again, and then keeps the labels it had.
        holder = self._holders(name).get(_STAGES[slot])
        if holder != _token(name, secret) and self.read(name, slot) != secret:
            self._move(name, _STAGES[slot], _token(name, secret), holder)
        return True

    def _create(self, name: str, secret: Secret) -> bool:
        """False when there is a secret of this name already."""
        created = self._ask(name, "create_secret", absent=("ResourceExistsException",), secret=secret)
        return created is not None

    def _move(self, name: str, stage: str, version: str, before: str | None) -> None:
        removal: dict[str, Any] = {"RemoveFromVersionId": before} if before else {}
        moved = self._ask(
            name,
            "update_secret_version_stage",
            absent=("InvalidParameterException", "ResourceNotFoundException"),
            VersionStage=stage,
            MoveToVersionId=version,
            **removal,
        )
        if moved is None and self._holders(name).get(stage) != version:
            raise conflict(self.describe(name))

    def _ask(
        self, name: str, action: str, *, absent: tuple[str, ...] = (), secret: Secret | None = None, **arguments: Any
    ) -> Any:
        """The answer to one request; None when its error is one of `absent`."""
        where = "AWS Secrets Manager"
        arguments["Name" if action == "create_secret" else "SecretId"] = name

        def ask() -> Any:
            # No variable holds the bare key, or a traceback with locals would show it.
            if secret is None:
                return getattr(self._client(), action)(**arguments)
            return getattr(self._client(), action)(
                SecretString=secret.reveal(), ClientRequestToken=_token(name, secret), **arguments
            )

        try:
            return in_time(where, ask)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if code in absent:
                return None
            raise _refusal(f"{where} ({name})", action, code, status) from None
        except BotoCoreError as error:
            raise _unreachable(where, type(error).__name__) from None

    def _client(self) -> Any:
        if self._made is None:
            waits = Config(connect_timeout=2, read_timeout=3, retries={"total_max_attempts": 1})
            client = boto3.session.Session().client("secretsmanager", config=waits)
            address = client.meta.endpoint_url
            if not address.startswith("https://") and not leads_here(origin_of(address)):
                raise Unavailable(
                    f"no key is sent to {address} in the clear", "use an https address", code="plain_http"
                )
            self._made = client
        return self._made


def _token(name: str, secret: Secret) -> str:
    """The id of a key's version: the same key put twice under one name is one version."""
    return hashlib.sha256(b"callmeter\0%b\0%b" % (name.encode(), secret.reveal().encode("ascii"))).hexdigest()


def _refusal(where: str, action: str, code: str, status: object) -> Unavailable:
    operation = "".join(part.capitalize() for part in action.split("_"))
    if code in _EXPIRED:
        return Unavailable(
            f"{where}: the AWS credentials have expired", "log in again: `aws sso login`", code="store_denied"
        )
    if code in _DENIED or status == 403:
        return Unavailable(
            f"{where} does not allow `secretsmanager:{operation}`",
            "see who asks with `aws sts get-caller-identity`, and allow it in that identity's policy",
            code="store_denied",
        )
    if code == "InvalidRequestException":
        return Unavailable(
            f"{where} is scheduled for deletion",
            "restore it with `aws secretsmanager restore-secret`, or use another name",
            code="store_failed",
        )
    return Unavailable(
        f"{where} refused {operation}: {code or status}", "see the AWS documentation", code="store_failed"
    )


def _unreachable(where: str, kind: str) -> Unavailable:
    told = {
        "NoCredentialsError": ("there are no AWS credentials", "set `AWS_PROFILE`, or run `aws configure`"),
        "PartialCredentialsError": ("the AWS credentials are incomplete", "run `aws configure`"),
        "ProfileNotFound": ("there is no such AWS profile", "see `AWS_PROFILE` and `aws configure list-profiles`"),
        "NoRegionError": ("there is no AWS region", "set `AWS_REGION`, or `region` in ~/.aws/config"),
        "ParamValidationError": ("the name is not one that a secret can have", "use letters, digits and `/_+=.@-`"),
    }
    what, hint = told.get(kind, (f"cannot be reached ({kind})", "see `aws secretsmanager list-secrets`"))
    return Unavailable(f"{where}: {what}" if kind in told else f"{where} {what}", hint, code="store_down")
