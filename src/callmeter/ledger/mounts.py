"""On what kind of file system a path lies."""

from __future__ import annotations

import os

# Where locks or shared memory of one host are not seen by the others, or not at all.
_NETWORK = (
    "nfs nfs4 cifs smb3 smbfs smb2 9p virtiofs afs ceph glusterfs lustre gpfs ocfs2 gfs2 beegfs orangefs coda ncpfs "
    "davfs vboxsf prl_fs vmhgfs"
)


def network_file_system(path: str) -> str:
    """The type of a network file system that a path lies on, such as `nfs4`; "" for a local or unknown one."""
    try:
        device = os.stat(path).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            lines = mounts.readlines()
    except OSError:
        return ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split()
        kind = after.split(" ", 1)[0]
        if len(fields) > 2 and fields[2] == wanted:
            return kind if kind in _NETWORK.split() or kind.startswith("fuse") else ""
    return ""
