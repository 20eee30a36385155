"""Opening, locking, appending, replacing: the only module that does it, so that the rules hold everywhere.

- What callmeter writes is 0600 from its first byte, in directories made 0700.
- Appends happen under an flock on a side-car file that is never rotated. A torn tail left by a crash is sealed
  by the next writer; a short write (full disk) is taken back. Measured: a single `write` with O_APPEND is
  torn by SIGKILL on ext4, and each torn line swallows the next one.
- Files are replaced by a synced temporary file and a rename.
- Symbolic links, FIFOs, devices and other people's files are refused, not followed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys

from callmeter.words.errors import Busy, CallmeterError, Malformed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

LOCK_PATIENCE = 10.0
# Nothing here says to run the command again: what failed may have been the line of a call that is paid for.
_HINTS = {
    errno.ENOSPC: "free some space on its disk",
    errno.EDQUOT: "free some of this user's quota on its disk",
    errno.EROFS: "set `CALLMETER_HOME` to a directory that can be written to",
    errno.ENOMEM: "free some memory, or allow this process more with `ulimit -v`",
    errno.EMFILE: "allow this process more open files with `ulimit -n`, or name fewer logs at once",
}
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class FileProblem(CallmeterError):
    """A file or directory cannot be used; the message names it and the system's reason."""

    code = "file_problem"


def make_directory(path: str) -> None:
    """Make a directory and its missing parents, 0700. Raises FileProblem."""
    if os.path.isdir(path):
        return
    try:
        # Not makedirs: its mode holds for the last directory only, and the state directory is often a parent.
        parent = os.path.dirname(path)
        if parent != path:
            make_directory(parent)
        os.mkdir(path, 0o700)
    except FileExistsError:
        return  # another process was quicker; a file in the way shows when something is opened below it
    except OSError as error:
        raise FileProblem(
            f"cannot make the directory {path}: {_reason(error)}",
            "set `CALLMETER_HOME` to a directory that you can write to",
        ) from None


def read_file(path: str, limit: int = 32 * 1024 * 1024, *, private: bool = False) -> bytes | None:
    """The bytes of a regular file, or None when there is none. With `private`, a file that others can read is
    refused. Raises FileProblem, or Malformed when it is larger than `limit`."""
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise file_problem("read", path, error) from None
    try:
        found = os.fstat(descriptor)
        _require_regular(path, found)
        if private and (found.st_mode & 0o077 or found.st_uid != os.geteuid()):
            raise FileProblem(
                f"{path} can be read by others (mode {stat.S_IMODE(found.st_mode):04o})",
                f"run `chmod 600 {path}`, and rotate the key if somebody else may have seen it",
            )
        if found.st_size > limit:
            raise Malformed(f"{path} is larger than {limit} bytes")
        parts = []
        size = 0
        while chunk := os.read(descriptor, 1 << 20):
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                raise Malformed(f"{path} is larger than {limit} bytes")
        return b"".join(parts)
    except OSError as error:
        raise file_problem("read", path, error) from None
    finally:
        os.close(descriptor)


def anyone_may_write(path: str) -> bool:
    """Whether every user of the machine could change a file. Raises FileProblem when it cannot be looked at."""
    try:
        return bool(os.stat(path).st_mode & stat.S_IWOTH)
    except OSError as error:
        raise file_problem("look at", path, error) from None


def open_to_read(path: str) -> int | None:
    """A descriptor of a regular file, symbolic links followed; None when there is none. Raises FileProblem."""
    try:
        descriptor = os.open(path, _READ & ~os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise file_problem("read", path, error) from None
    try:
        _require_regular(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class Lock:
    """An exclusive flock on a side-car file, held for a `with` block; waits at most `LOCK_PATIENCE` seconds.

    Waiting blocks in the kernel, which serves waiters in turn: polling starves some of them for seconds. The
    file holds the holder's pid, for the message of whoever gave up. Raises Busy, or FileProblem.
    """

    def __init__(self, path: str, patience: float = LOCK_PATIENCE) -> None:
        self.path = path
        self.patience = patience
        self._descriptor = -1

    def __enter__(self) -> Lock:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            make_directory(os.path.dirname(self.path))
            descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise file_problem("lock", self.path, error) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._wait(descriptor)
            os.pwrite(descriptor, b"%-10d" % os.getpid(), 0)
        except OSError as error:
            # A full disk must not keep anyone from the lock: the pid in it is only a courtesy.
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                os.close(descriptor)
                raise file_problem("lock", self.path, error) from None
        except BaseException:
            os.close(descriptor)
            raise
        if not os.fstat(descriptor).st_nlink:
            # A sweep removed it between our opening and our locking: lock the one that others see.
            os.close(descriptor)
            return self.__enter__()
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
        self._descriptor = -1

    def _wait(self, descriptor: int) -> None:
        import signal

        try:
            previous = signal.signal(signal.SIGALRM, _patience_over)
        except ValueError:
            # Only the main thread has alarms; a batch's threads wait behind their own process for microseconds.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            return
        signal.setitimer(signal.ITIMER_REAL, self.patience)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except _PatienceOver:
            holder = os.pread(descriptor, 10, 0).decode("ascii", "replace").strip()
            raise Busy(
                f"{self.path} has been locked for {self.patience:.0f} s by process {holder or 'unknown'}",
                f"look at it with `ps -p {holder}`; it may be stopped" if holder else "",
                retry_after=int(self.patience),
            ) from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)


def is_locked(path: str) -> bool:
    """Whether a process holds the Lock on `path` at this moment. A lock ends with its process, however it died."""
    try:
        descriptor = os.open(path, _READ)
    except OSError:
        return False
    try:
        # Shared: two who ask at once do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


class _PatienceOver(Exception):
    pass


def _patience_over(number: int, frame: object) -> None:
    raise _PatienceOver


class HeldFile:
    """A file that its process holds for as long as it lives: an flock that the kernel drops however the process
    ends. Who can `take` it knows that its writer is gone, and that nobody else has taken it."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: str, data: bytes) -> HeldFile:
        """Make the file, hold it, write its first bytes. Raises FileProblem; then there is no file."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            try:
                descriptor = os.open(path, flags, 0o600)
            except FileNotFoundError:
                make_directory(os.path.dirname(path))
                continue
            except OSError as error:
                raise file_problem("write", path, error) from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if os.fstat(descriptor).st_nlink:
                    break
            except OSError as error:
                os.close(descriptor)
                remove_file(path)
                raise file_problem("lock", path, error) from None
            # Somebody took the file between its creation and its lock, found it empty, and removed it.
            os.close(descriptor)
        held = cls(path, descriptor)
        try:
            held.append(data)
        except BaseException:
            held.remove()
            raise
        return held

    @classmethod
    def take(cls, path: str) -> HeldFile | None:
        """Hold a file whose writer is gone; None when it is held, or no longer there. Raises FileProblem."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise file_problem("read", path, error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(descriptor)
            _require_regular(path, found)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise file_problem("lock", path, error) from None
        except BaseException:
            os.close(descriptor)
            raise
        if not found.st_nlink:
            os.close(descriptor)
            return None
        return cls(path, descriptor)

    def append(self, data: bytes) -> None:
        """Write at the end, all or nothing. Raises FileProblem."""
        try:
            _write_whole(self._descriptor, data, os.fstat(self._descriptor).st_size)
        except OSError as error:
            raise file_problem("write", self.path, error) from None

    def read(self, limit: int) -> bytes:
        """The first `limit` bytes. Raises FileProblem."""
        try:
            return os.pread(self._descriptor, limit, 0)
        except OSError as error:
            raise file_problem("read", self.path, error) from None

    def pass_on(self) -> None:
        """Keep it held by the program that takes this process's place, for as long as that lives."""
        os.set_inheritable(self._descriptor, True)

    def close(self) -> None:
        """Let go; the file stays. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Remove the file, then let go, so that nobody takes what is finished. Idempotent."""
        if self._descriptor >= 0:
            remove_file(self.path)
            self.close()


def append_line(path: str, line: bytes, *, sync: bool = False, mode: int = 0o600) -> int:
    """Append one line (newline included) under the caller's lock and return the offset at which it begins.

    A tail without a newline, left by a crash, is sealed first, in the same write. A short write is taken back,
    so that a full disk never leaves half a line. A new file gets `mode`. Raises FileProblem; then nothing was
    appended.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags, mode)
    except FileNotFoundError:
        make_directory(os.path.dirname(path))
        descriptor = os.open(path, flags, mode)
    except OSError as error:
        raise file_problem("append to", path, error) from None
    try:
        found = os.fstat(descriptor)
        _require_regular(path, found)
        size = found.st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        _write_whole(descriptor, b"\n" + line if torn else line, size)
        if sync:
            os.fdatasync(descriptor)
        return size + (1 if torn else 0)
    except OSError as error:
        raise file_problem("append to", path, error) from None
    finally:
        os.close(descriptor)


def replace_file(path: str, data: bytes, *, mode: int = 0o600, sync: bool = True, locked: bool = False) -> None:
    """Put `data` in place of a file at once: readers see the old bytes or the new ones. Raises FileProblem; also for
    a device, a pipe or a directory, which a rename would take away from everybody.

    With `locked` the caller holds a lock that keeps others from replacing it; then a process that is killed here
    leaves nothing behind that the next one does not take away.
    """
    directory, name = os.path.dirname(path) or ".", os.path.basename(path)
    make_directory(directory)
    if os.path.exists(path) and not os.path.isfile(path):
        raise _irregular(path)
    temporary = os.path.join(
        directory, f".{name}.tmp" if locked else f".{name}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    )
    try:
        if locked:
            remove_file(temporary)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fchmod(descriptor, mode)
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
        if sync:
            sync_directory(directory)
    except OSError as error:
        remove_file(temporary)
        raise file_problem("write", path, error) from None


def sync_directory(path: str) -> None:
    """Make renames and removals in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_file(path: str) -> bool:
    """Remove a file; False when there was none (or it cannot be removed)."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def _write_whole(descriptor: int, data: bytes, size: int) -> None:
    """All of `data` at the end of a file of `size` bytes, or nothing."""
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        try:
            os.ftruncate(descriptor, size)
        except OSError as error:  # the next writer seals what is left
            print(f"callmeter: warning: a torn line stays behind: {_reason(error)}", file=sys.stderr)  # noqa: T201
        raise


def _require_regular(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _irregular(path)


def _irregular(path: str) -> FileProblem:
    return FileProblem(f"{path} is not a regular file", "name another file, or move this one away")


def file_problem(verb: str, path: str, error: OSError) -> FileProblem:
    """The error for what the system did not do: `cannot write PATH: no space left`."""
    if error.errno == errno.ELOOP:
        return FileProblem(f"cannot {verb} {path}: it is a symbolic link", "name the file itself in the settings")
    return FileProblem(f"cannot {verb} {path}: {_reason(error)}", _HINTS.get(error.errno or 0, ""))


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
