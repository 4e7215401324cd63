"""Runs Streamlit until it ends or is to stop: `python -m armlift_dashboards.supervisor run SCRIPT`."""

import signal
import subprocess
import sys

GRACE = 5.0
"""Seconds a server that is to stop may take: a connection that stays open could hold it for ever."""


def main(words: list[str]) -> int:
    """Run Streamlit with these words; gives its exit code, 0 where it was stopped by a signal."""
    server = subprocess.Popen([sys.executable, "-m", "streamlit", *words])
    stopped = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True
        server.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    while not stopped and server.poll() is None:
        try:
            server.wait(0.5)
        except subprocess.TimeoutExpired:
            continue
    if not stopped:
        return server.returncode
    try:
        server.wait(GRACE)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
