"""The board: messages in, rows out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from omniloop.live.board import Board, Row
from omniloop.live.events import Event, RolloutEnded, RunEnded, WorkerLost
from omniloop.live.schema import encode
from omniloop.live.telling import Telling
from tests.live.made_run import progress, result_of, started


class Told:
    """A run told to a board."""

    def __init__(self, board: Board, run: str = "demo", place: str = "runs/demo") -> None:
        self.board, self.run = board, run
        self.telling = Telling()
        self.telling.take(started(run, run_dir=place))

    def send(self, message: BaseModel | None, level: str, now_s: float = 0.0) -> None:
        assert message is not None
        self.board.take(f"p/q/{self.run}/{level}", encode(message), now_s)

    def tell(self, *events: Event) -> None:
        for event in events:
            for message in self.telling.take(event):
                level = "rollout/s/0" if message.kind == "rollout" else message.kind
                self.send(message, level)

    def status(self, now_s: float = 0.0) -> None:
        self.send(self.telling.status(), "status", now_s)

    def progress(self, now_s: float = 0.0) -> None:
        self.send(self.telling.progress(), "progress", now_s)
        self.send(self.telling.services(), "services", now_s)


def row_of(board: Board, now_s: float = 0.0) -> Row:
    [row] = board.rows(now_s)
    return row


def test_a_row_shows_the_newest_of_status_and_progress() -> None:
    board = Board("p/q")
    run = Told(board)
    run.status()
    assert (row_of(board).state, row_of(board).done, row_of(board).planned) == ("running", 0, 10)
    run.tell(progress(3, elapsed_s=2.0))
    run.progress()
    run.tell(progress(6, elapsed_s=4.0))
    run.progress()
    row = row_of(board)
    assert (row.done, row.outcomes, row.in_flight, row.left_s) == (6, {"completed": 6}, 2, 9.0)
    [load] = row.services
    assert (load.busy, load.call_ms, load.calls) == (0.5, 0.0, 60)
    run.tell(progress(7, "paused"))
    run.status()
    assert (row_of(board).state, row_of(board).done) == ("paused", 7)


def test_a_lost_run_keeps_what_was_known_of_it() -> None:
    board = Board("p/q")
    run = Told(board)
    will = run.telling.lost()
    run.tell(progress(3))
    run.status()
    run.progress()
    run.send(will, "status")
    row = row_of(board)
    assert (row.state, row.done, row.in_flight, row.left_s) == ("lost", 3, 0, None)
    assert row.ended
    alone = Board("p/q")
    Told(alone).send(will, "status")
    assert row_of(alone).done is None
    run.status()  # it was only the connection
    assert row_of(board).state == "running"


def test_a_will_that_comes_late_does_not_undo_a_good_end() -> None:
    board = Board("p/q")
    run = Told(board)
    will = run.telling.lost()
    run.tell(RunEnded("completed"))
    run.status()
    run.send(will, "status")
    assert row_of(board).state == "completed"


def test_incidents_failures_and_lost_workers_are_noted_once() -> None:
    board = Board("p/q")
    run = Told(board)
    run.tell(RolloutEnded(result_of(0), 1, "w0"))
    crash = run.telling.take(RolloutEnded(result_of(1, crash=True), 1, "w0"))[1]
    run.send(crash, "incident")
    run.send(crash, "incident")  # at least once
    failed = result_of(2, outcome="infrastructure_failed", what="the renderer is gone")
    run.tell(RolloutEnded(failed, 2, "w0", 4.0), WorkerLost("w0", "killed", ("line/3",)))
    notes = row_of(board).notes
    assert [note.kind for note in notes] == ["incident", "failure", "worker"]
    assert "4.0 s after handover front collision" in notes[0].text
    assert "attempt 2, again in 4 s: the renderer is gone" in notes[1].text


def test_several_runs_stand_side_by_side_those_that_go_on_first() -> None:
    board = Board("p/q")
    for name in ("b", "a", "c"):
        Told(board, name).status()
    done = Told(board, "a")
    done.tell(RunEnded("completed"))
    done.status()
    assert [row.name for row in board.rows(0.0)] == ["b", "c", "a"]
    board.take("p/q/b/status", b"", 0.0)  # how a retained status is removed
    assert [row.name for row in board.rows(0.0)] == ["c", "a"]


def test_two_runs_of_one_name_are_two_rows_whatever_the_order_of_their_messages() -> None:
    board = Board("p/q")
    one, two = Told(board, place="a/demo"), Told(board, place="b/demo")
    for done in range(1, 4):
        for run in (one, two):
            run.tell(progress(done if run is one else 9 - done))
            if done == 2:
                run.status()
            run.progress()
            run.status()
    both = {row.instance: row for row in board.rows(0.0)}
    assert {who: row.done for who, row in both.items()} == {
        one.telling.instance: 3, two.telling.instance: 6,
    }  # fmt: skip
    row = both[one.telling.instance]
    assert (row.name, row.label) == ("demo", f"demo ({one.telling.instance})")
    assert row.where.endswith("a/demo")
    will = two.telling.lost()
    two.send(will, "status")
    rows = board.rows(0.0)
    assert [(row.state, row.instance) for row in rows] == [
        ("running", one.telling.instance), ("lost", two.telling.instance),
    ]  # fmt: skip
    three = Told(board, place="b/demo")  # the one that was lost, taken up again
    three.status()
    three.send(will, "status")  # delivered again
    assert {row.instance for row in board.rows(0.0)} == {
        one.telling.instance,
        three.telling.instance,
    }
    assert len({note.sequence for row in board.rows(0.0) for note in row.notes}) == 0


def test_a_run_that_is_taken_up_goes_on_in_its_row_and_keeps_what_was_notable() -> None:
    board = Board("p/q")
    for place, end in (
        ("a", "lost"),
        ("elsewhere", "completed"),
        ("b", ""),
        ("b", "late"),
        ("b", ""),
    ):
        run = Told(board, place=place)
        run.status()
        row = row_of(board)
        assert (row.state, row.instance, row.label) == ("running", run.telling.instance, "demo")
        assert row.in_flight is None, "what the earlier start did"
        run.tell(progress(3))
        run.progress()
        run.tell(WorkerLost("w0", "killed", ()))
        if end == "late":
            will = run.telling.lost()
        elif end == "lost":
            run.send(run.telling.lost(), "status")
        elif end:
            run.tell(RunEnded(end))
            run.status()
    run.send(will, "status")
    row = row_of(board)
    assert (row.state, row.instance) == ("running", run.telling.instance)
    assert [note.sequence for note in row.notes] == [1, 2, 3, 4, 5]


def test_a_start_of_which_only_progress_is_heard_is_not_as_an_earlier_one_ended() -> None:
    board = Board("p/q")
    earlier = Told(board)
    earlier.tell(RunEnded("completed"))
    earlier.status()
    now = Told(board)
    now.tell(progress(4))
    now.progress()
    assert (row_of(board).state, row_of(board).done) == ("running", 4)


def test_silence_is_shown() -> None:
    board = Board("p/q")
    Told(board).status(now_s=100.0)
    assert row_of(board, 110.0).silent_s is None
    assert row_of(board, 160.0).silent_s == 60.0


def test_what_is_no_message_is_counted_and_says_why() -> None:
    board = Board("p/q")
    run = Told(board)
    status = encode(run.telling.status())
    board.take("p/q/demo/status", b"nonsense", 0.0)
    board.take("p/q/demo/status", status.replace(b'"version":1', b'"version":9'), 0.0)
    board.take("p/q/demo/progress", status, 0.0)
    board.take("p/q/demo/status", b"x" * (2 << 20), 0.0)
    assert board.ignored == 4
    assert "p/q/demo/status" in board.why
    board.take("p/other/demo/status", status, 0.0)
    board.take("p/q/demo/temperature", b"21", 0.0)  # other users of the prefix
    board.take("p/q/demo/command", b"nonsense", 0.0)
    assert board.ignored == 4
    assert board.rows(0.0) == []


def test_names_and_texts_do_nothing_to_a_terminal() -> None:
    board = Board("p/q")
    run = Told(board, "evil\x1b[2J\r\n")
    run.status()
    failed = result_of(2, outcome="policy_failed", what="\x1b]0;title\x07")
    run.tell(RolloutEnded(failed, 1, "w0"))
    row = row_of(board)
    assert row.name.isprintable()
    assert all(note.text.isprintable() for note in row.notes)


@given(st.text(max_size=20), st.binary(max_size=40))
def test_nothing_from_a_broker_makes_it_raise(level: str, payload: bytes) -> None:
    board = Board("p/q")
    board.take(f"p/q/{level}/status", payload, 0.0)
    board.rows(0.0)
