"""Replace this process by a command that the kernel ends when the starting process dies.

Run as a script, `python -I -S tethered.py PARENT_PID COMMAND [ARGUMENT ...]`, between the fork and the command. It
imports nothing beyond the standard library's core, because it runs before every service. On systems without
PR_SET_PDEATHSIG it only starts the command; the next supervisor then ends what is left by its recorded process id.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Tie this process to `argv[0]`, its parent's id, then become the command `argv[1:]`."""
    parent, command = int(argv[0]), argv[1:]
    os.umask(0o077)  # whatever a service writes is this user's alone
    # A shell starts background jobs with SIGINT ignored, which is inherited; Dagster then ignores SIGTERM as well.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        if os.getppid() != parent:  # it died before the call above
            sys.exit("the starting process is gone")
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
