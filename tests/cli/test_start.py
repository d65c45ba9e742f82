"""The console script ends without freeing its modules; nothing else of its end may be lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import atexit, os, sys, threading
from cli.start import main

class Module:
    def __del__(self, write=os.write):
        write(1, b"freed\\n")

def late():
    threading.main_thread().join()
    print("thread")

sys.freed = Module()
atexit.register(print, "handler")
threading.Thread(target=late).start()
sys.argv = ["modelmint", *sys.argv[1:]]
sys.exit(main())
"""


def ended(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    plain = {**os.environ, "PYTHONUNBUFFERED": ""}
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=plain)


@pytest.mark.parametrize(
    ("arguments", "status"), [(["models", "list", "--help"], 0), (["models", "no-command"], 2)]
)
def test_threads_and_exit_handlers_run_and_the_status_stays(arguments, status):
    done = ended(*arguments)
    assert (done.returncode, done.stdout.splitlines()[-2:]) == (status, ["thread", "handler"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
@pytest.mark.parametrize("last", ["--help", "--no-option"])  # fails by itself; only at the end
def test_output_that_a_full_disk_refuses_at_the_end_is_an_error(last):
    with open("/dev/full", "w") as full:
        done = ended("models", "list", last, stdout=full.fileno())
    assert done.returncode == 120
    assert "No space left" in done.stderr
