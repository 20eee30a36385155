"""The file store: one key a file, 0600 from its first byte, in a directory that is its owner's alone.

    secrets/LABEL         the key; LABEL.pending and LABEL.previous while it is being rotated
    secrets/.salt         what fingerprints are salted with, one for the installation
    secrets/.lock         held by whoever writes
    secrets/.LABEL.tmp    a key on its way; what is left of one after a crash is removed by the next writer

No label begins with a dot, and none ends in `.pending` or `.previous`.
Everything below the directory is opened relative to it, after a look at whose it is, so that nobody can slip
another one in between. What others could have read, or could have put there, is refused and not used.
"""

from __future__ import annotations

import errno
import os
import stat

from callmeter.secrets.secret import MAX_KEY, Secret, parse_secret
from callmeter.secrets.store import CURRENT, SLOTS, exchange, require_slot
from callmeter.store.files import Lock, make_directory
from callmeter.words.errors import NoKey, Unavailable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a FIFO would wait for a writer.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SALT = ".salt"


class FileStore:
    """Keys in the files of one directory, which is made, 0700, when the first key comes."""

    writable = True

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def read(self, name: str, slot: str = CURRENT) -> Secret | None:
        """The key, or None. Raises NoKey for a file or directory that is not the caller's alone."""
        file = _file(name, slot)
        data = self._read(file)
        return None if data is None else parse_secret(data, f"in {self._path(file)}")

    def write(self, name: str, secret: Secret, slot: str = CURRENT) -> None:
        """Replace the key: readers get the old one or the new one. Raises NoKey, Unavailable."""
        require_slot(slot)
        make_directory(self.directory)
        with _Writing(self) as directory:
            self._put(directory, _file(name, slot), secret)

    def swap(self, name: str, old: Secret | None, new: Secret) -> None:
        """Three files, each replaced at once, under the lock; readers of the current one never wait. A crash in
        between leaves the old key or the new one, and the same swap completes it. Raises Conflict too."""
        make_directory(self.directory)
        with _Writing(self) as directory:
            exchange(
                self._path(name),
                old,
                new,
                read=lambda slot: self.read(name, slot),
                put=lambda slot, secret: self._put(directory, _file(name, slot), secret),
                remove=lambda slot: self._remove(directory, _file(name, slot)),
            )

    def delete(self, name: str, slot: str | None = None) -> bool:
        """Remove the key, or what is in one slot. False when there was nothing."""
        _require_name(name)
        if not os.path.lexists(self.directory):
            return False
        with _Writing(self) as directory:
            # The key that calls use goes last: as long as something is left, so is the name.
            slots = reversed(SLOTS) if slot is None else (slot,)
            removed = [self._remove(directory, _file(name, each)) for each in slots]
        return any(removed)

    def describe(self, name: str) -> str:
        """The file's path."""
        return self._path(name)

    def salt(self) -> bytes:
        """This installation's salt, made when it is first asked for. Raises NoKey, Unavailable, FileProblem."""
        salt = self._read(_SALT)
        if salt is None:
            make_directory(self.directory)
            with _Writing(self) as directory:
                if self._read(_SALT) is None:  # another process may have been quicker
                    self._put(directory, _SALT, Secret(os.urandom(16).hex()))
            salt = self._read(_SALT)
        if salt is None or len(salt) < 32:
            raise NoKey(f"{self._path(_SALT)} is damaged", "restore it, or remove it and add the keys again")
        return salt.strip()

    def _read(self, name: str) -> bytes | None:
        _require_name(name)
        try:
            directory = self._open()
        except FileNotFoundError:
            return None
        try:
            descriptor = os.open(name, _READ, dir_fd=directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(self._path(name), error) from None
        finally:
            os.close(directory)
        try:
            _require_own_file(self._path(name), os.fstat(descriptor))
            return os.read(descriptor, MAX_KEY + 3)  # one byte more than the longest key and its newline
        except OSError as error:
            raise _unusable(self._path(name), error) from None
        finally:
            os.close(descriptor)

    def _put(self, directory: int, name: str, secret: Secret) -> None:
        temporary = f".{name}.tmp"
        try:
            descriptor = os.open(temporary, _WRITE, 0o600, dir_fd=directory)
            try:
                os.fchmod(descriptor, 0o600)  # a umask such as 777 takes the owner's own rights
                # No variable holds the key: whoever shows the locals of a traceback shows no key.
                if os.write(descriptor, secret.reveal().encode("ascii") + b"\n") <= len(secret.reveal()):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
        except OSError as error:
            raise _failed("write", self._path(name), error) from None

    def _remove(self, directory: int, name: str) -> bool:
        try:
            os.unlink(name, dir_fd=directory)
            os.fsync(directory)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _failed("remove", self._path(name), error) from None
        return True

    def _open(self) -> int:
        """The directory's descriptor. Raises FileNotFoundError, NoKey."""
        try:
            directory = os.open(self.directory, _DIRECTORY)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unusable(self.directory, error) from None
        found = os.fstat(directory)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            os.close(directory)
            _refuse_foreign(self.directory, found, 0o700)
        return directory

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)


class _Writing:
    """The directory, open and locked. Whatever is half written in it was left by a crash, and is removed; so is
    what this block leaves half written itself."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._lock = Lock(os.path.join(store.directory, ".lock"))

    def __enter__(self) -> int:
        self._directory = self._store._open()
        try:
            self._lock.__enter__()
            self._sweep()
        except BaseException:
            os.close(self._directory)
            raise
        return self._directory

    def __exit__(self, *_: object) -> None:
        try:
            self._sweep()
        finally:
            self._lock.__exit__(None, None, None)
            os.close(self._directory)

    def _sweep(self) -> None:
        for name in os.listdir(self._directory):
            if name.startswith(".") and name.endswith(".tmp"):
                os.unlink(name, dir_fd=self._directory)


def _file(name: str, slot: str) -> str:
    _require_name(name)
    return name if slot == CURRENT else f"{name}.{slot}"


def _require_name(name: str) -> None:
    if "/" in name or name in ("", ".", ".."):
        raise ValueError("a name that leads out of the secret store")


def _require_own_file(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NoKey(f"{path} is not a regular file", "move it away, and add the key again", code="key_unsafe")
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        _refuse_foreign(path, found, 0o600)
    if found.st_nlink > 1:
        raise NoKey(
            f"{path} has a second name (a hard link), under which others may find it",
            "remove the other one, or add the key again with `--replace`",
            code="key_unsafe",
        )


def _refuse_foreign(path: str, found: os.stat_result, mode: int) -> None:
    if found.st_uid != os.geteuid():
        raise NoKey(f"{path} belongs to another user (uid {found.st_uid})", f"see `ls -ld {path}`", code="key_unsafe")
    raise NoKey(
        f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):04o})",
        f"run `chmod {mode:o} {path}`, and rotate the key if somebody else may have seen it",
        code="key_unsafe",
    )


def _unusable(path: str, error: OSError) -> NoKey:
    if error.errno in (errno.ELOOP, errno.ENOTDIR) and os.path.islink(path):
        return NoKey(
            f"{path} is a symbolic link, which is not followed", "put the file itself there", code="key_unsafe"
        )
    return NoKey(f"cannot read {path}: {_reason(error)}", f"see `ls -ld {path}`", code="key_unsafe")


def _failed(verb: str, path: str, error: OSError) -> Unavailable:
    return Unavailable(f"cannot {verb} {path}: {_reason(error)}", code="store_failed")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
