"""A process that takes all it started with it: python tests/kept.py COMMAND…

It runs the command, and ends every process that comes of it, also those that made themselves daemons, when its own
standard input ends (so also when who started it is killed), when it gets SIGTERM, or when the command itself ends.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import psutil

SUBREAPER = 36  # of linux/prctl.h: orphans below become children of this process, not of init


def main() -> None:
    ctypes.CDLL(None).prctl(SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    threading.Thread(target=_wait_for_the_end_of_input, daemon=True).start()
    try:
        sys.exit(process.wait())
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_all_below()


def _wait_for_the_end_of_input() -> None:
    while os.read(0, 1024):
        pass
    psutil.Process().terminate()


def end_all_below() -> None:
    """Until there is none: one that is being started may be missed at first."""
    while below := psutil.Process().children(recursive=True):
        for process in below:
            try:
                process.kill()
                process.wait(0.1)
            except (psutil.NoSuchProcess, psutil.TimeoutExpired):
                pass
        time.sleep(0.05)


if __name__ == "__main__":
    main()
