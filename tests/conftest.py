"""For pytest: where the tests' own modules lie, and what the programs of a failed test said."""
import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "system"), str(HERE / "attack")]
import system  # noqa: E402
LOG_MAX = 6000  # characters of each program's log that a failure shows: its end


def pytest_sessionstart(session):
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.exit("skipped: these tests need root and /dev/fuse", returncode=77)
    system.own_mounts()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if not report.failed:
        return
    own = getattr(item.instance, "system", None) or getattr(item.cls, "system", None)
    for process in getattr(own, "processes", []):
        try:
            report.sections.append((f"log of {process.name}", process.err()[-LOG_MAX:]))
        except FileNotFoundError:
            pass  # the test has tidied up already
