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
import contextlib, os, signal, sys, time
from p2pfs.storage.children import Children, can_fork
assert can_fork()

@contextlib.contextmanager
def started(*arguments):
    children = Children(*arguments)
    try:
        children.start()
        yield children
    finally:
        children.close()

def outcomes(children):
    return sorted(outcome for outcome in children.outcomes(10) if outcome)

def no_child_is_left():
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
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
        with started(3, jobs, prepare) as children:
            found = outcomes(children)
            print(children.undone)
        print(found == [(job, True) for job in range(jobs)], set(counts[:]))
        """
    )
    assert said == "[]\nTrue {1}\n"


def test_a_job_that_raises_is_not_done_and_the_others_are():
    said = alone(
        """
        def do(job):
            if job % 3 == 1:
                raise ValueError(job)
        with started(2, 7, lambda: do) as children:
            print(outcomes(children))
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
        with started(2, 5, lambda: do) as children:
            print(outcomes(children), children.undone)
        with started(1, 5, lambda: do) as children:
            print(outcomes(children), children.undone)
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
            with started(2, 5, lambda: do) as children:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        print(no_child_is_left())
        print(len(os.listdir("/proc/self/fd")) == before)
        """
    )
    assert said == "True\nTrue\n"


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
                with started(1, 100_000, lambda: do) as children:
                    outcomes(children)
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
        with started(2, 5, lambda: do) as children:
            print(outcomes(children))
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
            with started(2, 5, lambda: print):
                print("none")
        except OSError as error:
            print(error.strerror)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        print(len(os.listdir("/proc/self/fd")) == before)
        """
    )
    assert said == "Too many open files\nTrue\n"


def test_one_child_is_enough_where_the_system_gives_no_more():
    said = alone(
        """
        fork, forks = os.fork, []
        def one():
            forks.append(None)
            if len(forks) > 1:
                raise BlockingIOError
            return fork()
        os.fork = one
        with started(3, 4, lambda: lambda job: None) as children:
            print(outcomes(children))
        """
    )
    assert said == str([(job, True) for job in range(4)]) + "\n"


def test_a_thread_that_only_the_system_knows_keeps_it_from_forking():
    said = alone(
        """
        import _thread, threading
        going = _thread.allocate_lock()
        going.acquire()
        _thread.start_new_thread(going.acquire, ())
        print(threading.active_count(), can_fork())
        """
    )
    assert said == "1 False\n"


def test_silence_is_told():
    said = alone(
        """
        with started(1, 1, lambda: lambda job: time.sleep(0.2)) as children:
            told = list(children.outcomes(0.01))
        print(told.count(None) > 1, told[-1])
        """
    )
    assert said == "True (0, True)\n"


@pytest.mark.parametrize("number", ["SIGHUP", "SIGTERM", "SIGBUS", "SIGUSR1"])
def test_no_handler_of_the_parents_runs_in_a_child(number):
    said = alone(
        f"""
        import faulthandler
        faulthandler.enable()
        signal.signal(signal.{number}, lambda *_: print("handled", os.getpid(), flush=True))
        def do(job):
            os.kill(os.getpid(), signal.{number})
            time.sleep(60)
        with started(2, 4, lambda: do) as children:
            print(outcomes(children), children.undone)
        """
    )
    assert said == "[] [0, 1, 2, 3]\n"


def test_an_interruption_at_any_moment_leaves_no_child_and_no_descriptor():
    said = alone(
        """
        class Late(Exception):
            pass
        def late(*_):
            raise Late
        signal.signal(signal.SIGALRM, late)
        before = len(os.listdir("/proc/self/fd"))
        interrupted = 0
        for turn in range(300):
            children = Children(2, 50, lambda: lambda job: None)
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-5 + turn * 2e-5)
                    children.start()
                    outcomes(children)
                finally:
                    children.close()
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except Late:
                interrupted += 1
                children.close()
            assert no_child_is_left(), turn
            assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()), turn
        print(interrupted > 20, len(os.listdir("/proc/self/fd")) == before)
        """
    )
    assert said == "True True\n"


def test_a_handler_that_raises_leaves_no_signal_kept_away():
    said = alone(
        """
        from p2pfs.storage import children as tested
        class Late(Exception):
            pass
        def late(*_):
            raise Late
        signal.signal(signal.SIGALRM, late)
        interrupted = 0
        for turn in range(20_000):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + turn % 50 * 1e-6)
                for _ in range(20):
                    with tested._Undisturbed():
                        pass
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Late:
                interrupted += 1
            assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()), turn
        print(interrupted > 100)
        """
    )
    assert said == "True\n"
