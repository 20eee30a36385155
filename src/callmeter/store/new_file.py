"""A file that is made beside the one in use, and takes its place when it is whole and durable."""

from __future__ import annotations

import os
import stat

from callmeter.store.files import file_problem, remove_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class NewFile:
    """A file in the making, under a name that nobody reads until it is renamed; mode and owner are those of `like`.

    Held open for a `with` block. Whatever lay under the name is replaced. Raises FileProblem.
    """

    def __init__(self, path: str, like: os.stat_result) -> None:
        self.path = path
        self._like = like
        self._descriptor = -1

    def __enter__(self) -> NewFile:
        remove_file(self.path)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o600)
            if self._like.st_uid != os.geteuid():
                os.fchown(self._descriptor, self._like.st_uid, self._like.st_gid)
            os.fchmod(self._descriptor, stat.S_IMODE(self._like.st_mode))
        except OSError as error:
            raise file_problem("write", self.path, error) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def write(self, data: bytes) -> None:
        """Write all of it."""
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise file_problem("write", self.path, error) from None

    def sync(self) -> None:
        """Make it durable."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise file_problem("write", self.path, error) from None


def rename_file(old: str, new: str) -> None:
    """Give a file another name in its directory; what had that name is replaced. Raises FileProblem."""
    try:
        os.rename(old, new)
    except OSError as error:
        raise file_problem("write", new, error) from None
