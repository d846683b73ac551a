"""Children are made by a process of their own here: one that has threads has none."""

import subprocess
import sys
import textwrap
import threading

import pytest

from p2pfs.storage.children import can_fork
from tests.support.alone import run_python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are made on Linux")

START = """
import os, signal, sys, time
from p2pfs.storage.children import Children, can_fork
assert can_fork()
"""


def alone(code):
    """What a process with one thread says that runs this."""
    return run_python(START, code)


def test_a_process_with_threads_has_no_children():
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    try:
        assert not can_fork()
    finally:
        event.set()
        thread.join()


def test_every_job_is_done_once_by_a_child_and_more_of_them_than_a_pipe_holds():
    said = alone(
        """
        import mmap
        jobs = 40_000
        counts = mmap.mmap(-1, jobs)
        here = os.getpid()
        def prepare():
            assert os.getpid() != here
            def do(job):
                counts[job] += 1
            return do
        with Children(3, jobs, prepare) as children:
            outcomes = list(children.outcomes())
            print(children.undone)
        print(sorted(outcomes) == [(job, True) for job in range(jobs)], set(counts[:]))
        """
    )
    assert said == "[]\nTrue {1}\n"


def test_a_job_that_raises_is_not_done_and_the_others_are():
    said = alone(
        """
        def do(job):
            if job % 3 == 1:
                raise ValueError(job)
        with Children(2, 7, lambda: do) as children:
            print(sorted(children.outcomes()))
        """
    )
    assert said == (
        "[(0, True), (1, False), (2, True), (3, True), (4, False), (5, True), (6, True)]\n"
    )


def test_what_children_leave_when_they_die_is_undone():
    said = alone(
        """
        def do(job):
            if job == 2:
                os.kill(os.getpid(), signal.SIGBUS)
            if job > 2:
                time.sleep(0.01)
        with Children(2, 5, lambda: do) as children:
            print(sorted(children.outcomes()), children.undone)
        with Children(1, 5, lambda: do) as children:
            print(sorted(children.outcomes()), children.undone)
        """
    )
    assert said.splitlines() == [
        "[(0, True), (1, True), (3, True), (4, True)] [2]",
        "[(0, True), (1, True)] [2, 3, 4]",
    ]


def test_no_child_is_left_when_the_block_is_left_early():
    said = alone(
        """
        before = len(os.listdir("/proc/self/fd"))
        def do(job):
            time.sleep(60)
        try:
            with Children(2, 5, lambda: do) as children:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            print("none")
        print(len(os.listdir("/proc/self/fd")) == before)
        """
    )
    assert said == "none\nTrue\n"


def test_children_end_when_their_parent_is_killed():
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            START
            + textwrap.dedent(
                """
                def do(job):
                    if job == 0:
                        print('begun', flush=True)
                    time.sleep(0.01)
                with Children(1, 100_000, lambda: do) as children:
                    list(children.outcomes())
                """
            ),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.kill()
    process.wait()
    with process.stdout:  # ends when nobody has the other end any more
        assert process.stdout.read() == ""


def test_a_child_does_not_care_for_ctrl_c_which_its_parent_answers():
    said = alone(
        """
        def do(job):
            os.kill(os.getpid(), signal.SIGINT)
        with Children(2, 5, lambda: do) as children:
            print(sorted(children.outcomes()))
        """
    )
    assert said == str([(job, True) for job in range(5)]) + "\n"


def test_too_few_processes_or_descriptors_are_an_error_that_leaves_nothing():
    said = alone(
        """
        import resource
        before = len(os.listdir("/proc/self/fd"))
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + 1, hard))
        try:
            with Children(2, 5, lambda: print):
                print("none")
        except OSError as error:
            print(error.strerror)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        print(len(os.listdir("/proc/self/fd")) == before)
        """
    )
    assert said == "Too many open files\nTrue\n"
