"""Jobs: one per key, seen from outside; progress, cancel, failure."""

import logging
import math
import threading
import time

import pytest

from app.components.cards import seconds_left
from app.jobs import Board, Job, Progress, one_sentence
from mpdit_core.errors import BadData
from mpdit_core.progress import track


def wait_for(condition, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


class Work:
    """Work of many short steps that a test can hold and count."""

    def __init__(self, steps: int = 1000, seconds: float = 0.01):
        self.steps, self.seconds, self.calls = steps, seconds, 0

    def __call__(self) -> None:
        self.calls += 1
        for _ in track(range(self.steps), "steps"):
            time.sleep(self.seconds)


def test_many_who_ask_the_same_share_one_job():
    board, work = Board(), Work(steps=20)
    jobs = {board.ask("key", "work", work, asker) for asker in range(5)}
    assert len(jobs) == 1
    assert wait_for(lambda: jobs.copy().pop().state == "done")
    assert work.calls == 1


def test_another_key_is_another_job_and_a_finished_one_is_run_again_when_asked_again():
    board, work = Board(), Work(steps=1)
    first, second = board.ask("a", "", work, 1), board.ask("b", "", work, 1)
    assert first is not second
    assert wait_for(lambda: first.over and second.over)
    again = board.ask("a", "", work, 1)
    assert wait_for(lambda: again.over) and work.calls == 3


def test_cancel_stops_within_two_seconds():
    board, work = Board(), Work()
    job = board.ask("key", "work", work, "me")
    assert wait_for(lambda: job.progress.share > 0)
    start = time.monotonic()
    assert board.withdraw("key", "me")
    assert wait_for(lambda: job.over)
    assert job.state == "stopped" and time.monotonic() - start < 2


def test_cancel_stops_a_job_that_still_waits_for_its_turn():
    board, first, second = Board(at_once=1), Work(), Work()
    running = board.ask("first", "", first, "me")
    assert wait_for(lambda: running.state == "running")
    waiting = board.ask("second", "", second, "me")
    board.withdraw("second", "me")
    assert wait_for(lambda: waiting.state == "stopped") and second.calls == 0
    board.withdraw("first", "me")


def test_a_job_goes_on_while_anyone_else_who_is_still_there_wants_it():
    there = {"you": True, "me": True}
    board = Board(alive=lambda asker: there[str(asker)])
    job = board.ask("key", "", Work(), "me")
    board.ask("key", "", Work(), "you")
    assert not board.withdraw("key", "me") and not job.stop.is_set()
    board.ask("key", "", Work(), "me")
    there["you"] = False
    assert board.withdraw("key", "me")
    assert wait_for(lambda: job.state == "stopped")


def test_a_stopped_job_starts_anew_when_asked_again():
    board = Board()
    first = board.ask("key", "", Work(), "me")
    board.withdraw("key", "me")
    second = board.ask("key", "", Work(steps=1), "me")
    assert second is not first
    assert wait_for(lambda: first.state == "stopped" and second.state == "done")


def test_only_so_many_compute_at_once():
    board, running, most = Board(at_once=2), [0], [0]
    lock = threading.Lock()

    def work() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05)
        with lock:
            running[0] -= 1

    jobs = [board.ask(str(number), "", work, "me") for number in range(6)]
    assert wait_for(lambda: all(job.state == "done" for job in jobs))
    assert most[0] == 2


def test_what_takes_a_moment_does_not_wait_for_long_work():
    board = Board(at_once=1)
    long = board.ask("long", "", Work(), "you", "long")
    assert wait_for(lambda: long.state == "running")
    quick = board.ask("quick", "", Work(steps=1), "me", "quick")
    assert wait_for(lambda: quick.state == "done") and not long.over
    board.withdraw("long", "you")


def test_a_failure_is_kept_as_one_sentence_until_it_is_forgotten():
    def work() -> None:
        raise BadData("There are no images in the folder; name one that has some.")

    board = Board()
    job = board.ask("key", "", work, "me")
    assert wait_for(lambda: job.state == "failed")
    assert job.error == "There are no images in the folder; name one that has some."
    assert board.find("key") is job
    board.forget("key")
    assert board.find("key") is None


def test_a_running_job_is_not_forgotten():
    board = Board()
    job = board.ask("key", "", Work(), "me")
    board.forget("key")
    assert board.find("key") is job
    board.withdraw("key", "me")


def test_an_unexpected_error_is_logged_under_the_id_that_is_shown(caplog):
    def work() -> None:
        raise ZeroDivisionError("secret detail")

    with caplog.at_level(logging.ERROR):
        job = Board().ask("key", "", work, "me")
        assert wait_for(lambda: job.state == "failed")
    assert "secret detail" not in job.error and "ZeroDivisionError" in job.error
    name = job.error.split()[-1].rstrip(".")
    assert name in caplog.text and "secret detail" in caplog.text


def test_two_unexpected_errors_have_two_ids():
    assert one_sentence(ValueError()) != one_sentence(ValueError())


def test_progress_of_nested_loops_is_one_share_that_only_grows():
    progress, shares = Progress(), []
    for outer in range(4):
        progress.report("runs", outer, 4)
        for inner in range(3):
            progress.report("batches", inner, 3)
            shares.append(progress.share)
        progress.report("batches", 3, 3)
    progress.report("runs", 4, 4)
    assert shares == sorted(shares) and shares[1] == pytest.approx(1 / 12)
    assert progress.share == 1


def test_a_loop_of_unknown_length_counts_as_nothing_done():
    progress = Progress()
    progress.report("waiting", 0, 0)
    assert progress.share == 0


def test_the_time_left_comes_from_the_pace_so_far():
    job = Job("key", "", lambda: None)
    assert math.isnan(job.seconds_left())
    job.started = time.monotonic() - 10
    job.report("steps", 1, 4)
    assert job.seconds_left() == pytest.approx(30, rel=0.05)


def test_the_time_left_of_several_counts_those_that_wait_too():
    jobs = [Job(str(number), "", lambda: None) for number in range(3)]
    assert math.isnan(seconds_left(jobs))
    jobs[0].state, jobs[0].started = "running", time.monotonic() - 5
    jobs[0].report("steps", 1, 2)
    assert seconds_left(jobs) == pytest.approx((5 + 10 + 10) / 2, rel=0.1)


def test_threads_report_to_their_own_jobs():
    board = Board()
    quick, slow = Work(steps=2, seconds=0), Work(steps=1000)
    first, second = board.ask("quick", "", quick, "me"), board.ask("slow", "", slow, "me")
    assert wait_for(lambda: first.state == "done")
    assert second.progress.share < 1
    board.withdraw("slow", "me")
