"""Runs batches: gives rollouts to workers as the scheduler says, retries, tells listeners."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from omniloop.core.errors import OmniloopError, RolloutHung, RunFolderError, ServiceError
from omniloop.live.events import Listener, RolloutEnded, RolloutStarted, WorkerLost
from omniloop.runlog.folder import rollout_dir
from omniloop.runlog.results import RESULT_NAME, RolloutResult, read_result
from omniloop.runner.batch.executor import Executor, Source, WorkerDied, limits_of
from omniloop.runner.batch.rollouts import given_up, hung_error
from omniloop.runner.batch.scheduler import Address, Assignment, Backoff, Scheduler, Task
from omniloop.runner.job import Job, Order

_BARREN = 3
"""Workers that may die in a row without a rollout between them, before a run gives up.

One that dies of rollouts that were tried before does not count: these end with their attempts.
"""
_PASSING = ("TransientError", "SessionLost", "SessionEvicted", "WorkerDied")
"""Errors of causes that may pass; others that come again in the same words do not."""


@dataclass(frozen=True)
class Rules:
    """How a batch goes about it.

    Attributes:
        attempts: How often a rollout is tried whose infrastructure failed.
        hang_s: See `omniloop.runner.batch.rollouts.Rollouts`.
        per_worker: Rollouts that a worker can simulate at once.
        concurrency: Rollouts at once over all workers; None for as many as have room.
        finishing: Rollouts that a worker scores or draws, beyond which it begins no other: each
            holds all that happened in it.
    """

    attempts: int = 3
    hang_s: float | None = None
    per_worker: int = 1
    concurrency: int | None = None
    finishing: int = 2


@dataclass(eq=False)
class Request:
    """Rollouts that are asked for together.

    Attributes:
        jobs: What to run.
        content: The content hash of a job.
        listeners: Told of its rollouts.
        weight: Its share of what is scarce.
        own: Services whose sessions it does not share with other requests.
        wire_uuids: What drivers that are elsewhere shall know its rollouts by.
        keep_steps: See `omniloop.runner.job.Order`.
        outcomes: How many of its rollouts ended how, for good; their results are in the folder.
        done: Set to the first failure of the run folder, or to None at the end.
    """

    source: Source
    jobs: Sequence[Job]
    content: Callable[[Job], str]
    listeners: Sequence[Listener] = ()
    weight: float = 1.0
    own: frozenset[str] = frozenset()
    wire_uuids: Mapping[Job, str] = field(default_factory=dict)
    keep_steps: bool = False
    outcomes: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    cancelled: bool = False
    started_s: float = field(default_factory=time.monotonic)
    done: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    _first: dict[Job, int] = field(default_factory=dict)
    _errors: dict[Job, str] = field(default_factory=dict)
    _left: set[Job] = field(default_factory=set)

    @property
    def name(self) -> str:
        """Its source's."""
        return self.source.name


class Batch:
    """Runs requests on an executor until it is closed.

    Every rollout of a request ends exactly once for good: with its result in its folder, or,
    when it is cancelled, without one. Only rollouts whose infrastructure failed are tried
    again, and not those that failed twice in the same words of a cause that does not pass.
    """

    def __init__(self, executor: Executor, rules: Rules) -> None:
        self._executor = executor
        self._rules = rules
        self._requests: dict[str, Request] = {}
        self.scheduler = Scheduler(attempts=rules.attempts, backoff=Backoff())
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pump: asyncio.Task[None] | None = None
        self._barren = 0
        self._dead: set[str] = set()
        self._replacing = 0

    @property
    def executor(self) -> Executor:
        """Where the rollouts run."""
        return self._executor

    @property
    def is_broken(self) -> bool:
        """Whether nothing can begin any more: the workers are gone for good, or the batch broke."""
        gone = not self._replacing and not self.scheduler.workers()
        return gone or (self._pump is not None and self._pump.done())

    async def start(self) -> None:
        """Start the workers.

        Raises:
            OmniloopError: one cannot be started.
        """
        for worker in await self._executor.start():
            self._add_worker(worker)
        self.scheduler.set_concurrency(self._rules.concurrency)
        self._pump = asyncio.create_task(self._schedule())
        self._pump.add_done_callback(self._broke_down)

    def _add_worker(self, worker: str) -> None:
        self.scheduler.add_worker(worker, self._rules.per_worker, self._rules.finishing)

    def add(self, request: Request) -> None:
        """Take a request; its `done` tells its end.

        Raises:
            ConfigError: there is one of that name.
        """
        services: dict[str, tuple[str, ...]] = {}
        for name, limits in limits_of(request.source).items():
            owner = request.name if name in request.own else ""
            for address, limit in limits.items():
                self.scheduler.add_address(Address(name, address, limit, owner))
            services[name] = tuple(limits)
        self.scheduler.add_request(request.name, services, request.weight)
        self._requests[request.name] = request
        request._left.update(request.jobs)
        self.scheduler.submit(Task(request.name, j.scene_id, j.seed) for j in request.jobs)
        self._settle(request)
        self._wake.set()

    def cancel(self, request: Request) -> None:
        """Drop what a request has queued and end what it has under way."""
        if request.done.done():
            return
        request.cancelled = True
        dropped = self.scheduler.remove_request(request.name)
        request._left.difference_update(Job(t.scene, t.seed) for t in dropped)
        for task in tuple(self._tasks):
            if task.get_name() == request.name:
                task.cancel()
        self._settle(request)

    def poke(self) -> None:
        """Look again at what can begin: a rule of the scheduler was changed."""
        self._wake.set()

    async def stop(self) -> None:
        """End everything that is under way; what is done stays."""
        tasks = [*self._tasks, *([] if self._pump is None else [self._pump])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._executor.stop()

    async def _schedule(self) -> None:
        """Begin whatever can begin, whenever something changed."""
        while True:
            self._wake.clear()
            while (assignment := self.scheduler.next(time.monotonic())) is not None:
                name = assignment.task.request
                task = asyncio.create_task(self._rollout(assignment), name=name)
                self._tasks.add(task)
                task.add_done_callback(partial(self._rolled_out, assignment))
            due_s = self.scheduler.next_due_s()
            wait_s = None if due_s is None else max(due_s - time.monotonic(), 0.001)
            try:
                await asyncio.wait_for(self._wake.wait(), wait_s)
            except TimeoutError:
                continue

    def _broke_down(self, task: asyncio.Task[None]) -> None:
        """Nothing goes on after an error that nobody looked for: let no request wait for ever."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            _show(task, error)
            for request in tuple(self._requests.values()):
                self._fail(request, _broken(error, ""))

    def _rolled_out(self, assignment: Assignment, task: asyncio.Task[None]) -> None:
        """An attempt is over, however it ended, even if it was cancelled before it began."""
        self._tasks.discard(task)
        self._over(assignment)
        self._wake.set()
        request = self._requests.get(assignment.task.request)
        error = None if task.cancelled() else task.exception()
        if request is None:
            return
        if task.cancelled():
            request._left.discard(Job(assignment.task.scene, assignment.task.seed))
            self._settle(request)
        elif isinstance(error, OmniloopError):  # the run folder, or what a worker cannot construct
            self._fail(request, error)
        elif isinstance(error, Exception):  # another ends the event loop, too
            _show(task, error)
            self._fail(request, _broken(error, assignment.task.name))

    async def _rollout(self, assignment: Assignment) -> None:
        """One attempt at a rollout, from its start to what follows from its end."""
        task = assignment.task
        request = self._requests.get(task.request)
        if request is None:  # it failed in the meantime
            return
        job = Job(task.scene, task.seed)
        try:
            result = await self._attempt(request, job, assignment)
        except WorkerDied:  # before it was given the rollout, which is no attempt
            self.scheduler.submit([task])
            return
        self._judge_addresses(assignment, result)
        retry_s = None
        if result.outcome == "infrastructure_failed":
            retry_s = self._retry(request, job, assignment, result)
        self._over(assignment)
        self._tell(request, RolloutEnded(result, assignment.attempt, assignment.worker, retry_s))
        if retry_s is None:
            request.outcomes[result.outcome] += 1
            request._left.discard(job)
            self._settle(request)
        else:
            request.retries += 1

    async def _attempt(self, request: Request, job: Job, assignment: Assignment) -> RolloutResult:
        """Have a worker run a rollout.

        Raises:
            WorkerDied: the worker was dead before it was given the rollout.
            RunFolderError: the folder is gone, or cannot be written.
        """
        request.source.folder.check()
        folder, suite = request.source.folder, request.source.setup.suite
        before = request._first.setdefault(job, folder.attempts(job.scene_id, job.seed))
        order = Order(
            job, attempts=before + assignment.attempt, content_sha256=request.content(job),
            addresses=assignment.addresses, suite=None if suite is None else suite.reference,
            queued_s=assignment.began_s - request.started_s,
            wire_uuid=request.wire_uuids.get(job, ""), keep_steps=request.keep_steps,
        )  # fmt: skip
        started = RolloutStarted(
            job.scene_id, job.seed, assignment.attempt, assignment.worker, assignment.addresses
        )
        self._tell(request, started)

        def simulated() -> None:
            if self.scheduler.holds(assignment):
                self.scheduler.simulated(assignment, time.monotonic())
                self._wake.set()

        try:
            result = await self._executor.run(assignment.worker, request.source, order, simulated)
        except WorkerDied as died:
            self._lost(assignment, died)
            if not died.began:
                raise
            return self._after_death(request, order, died)
        self._barren = 0
        return result

    def _over(self, assignment: Assignment) -> None:
        """A rollout holds nothing any more; that of a dead worker held nothing already."""
        if self.scheduler.holds(assignment):
            self.scheduler.ended(assignment, time.monotonic())

    def _after_death(self, request: Request, order: Order, died: WorkerDied) -> RolloutResult:
        """The result of a rollout whose worker died: its own, if that was written before."""
        folder, job = request.source.folder, order.job
        path = rollout_dir(folder.path, job.scene_id, job.seed) / RESULT_NAME
        try:
            written = read_result(path)
            if (written.attempts, written.content_sha256) == (order.attempts, order.content_sha256):
                return written
        except RunFolderError:
            pass  # not there, or half: the rollout did not end
        error: OmniloopError = died
        if job.name in died.hung:
            error = hung_error(order, self._rules.hang_s or 0.0)
        took_s = time.monotonic() - request.started_s - order.queued_s
        result = given_up(request.source.setup, order, error, took_s)
        folder.finish_rollout(result)
        return result

    def _lost(self, assignment: Assignment, died: WorkerDied) -> None:
        """The first rollout of a dead worker that learns of it has the worker replaced."""
        worker = assignment.worker
        if worker in self._dead:
            return
        self._dead.add(worker)
        had = self.scheduler.lost(worker)
        names = tuple(f"{a.task.scene}/{a.task.seed}" for a in had)
        for name in dict.fromkeys(a.task.request for a in had):
            if (request := self._requests.get(name)) is not None:
                self._tell(request, WorkerLost(worker, died.what, names))
        self._barren += any(a.attempt == 1 for a in had) or not died.began
        self._replacing += 1
        task = asyncio.create_task(self._replace(worker, died), name="")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._broke_down)

    async def _replace(self, worker: str, died: WorkerDied) -> None:
        try:
            if self._barren >= _BARREN:
                raise ServiceError(
                    f"{self._barren} workers died in a row without one rollout between them:"
                    f" {died.what}", where=worker,
                    remedy="see what they wrote above; go on with run.resume=true",
                )  # fmt: skip
            self._add_worker(await self._executor.replace(worker))
        except OmniloopError as error:
            for request in tuple(self._requests.values()):
                self._fail(request, error)
        finally:
            self._replacing -= 1
            self._wake.set()

    def _judge_addresses(self, assignment: Assignment, result: RolloutResult) -> None:
        """Tell the scheduler which addresses served the rollout, and which failed it."""
        failed = (result.error or {}).get("address", "")
        kind = (result.error or {}).get("type")
        silent = kind in _PASSING or kind == RolloutHung.__name__
        request = assignment.task.request
        for service, address in assignment.addresses.items():
            if result.outcome == "completed":
                self.scheduler.answered(service, address, request)
            elif address == failed and silent:
                self.scheduler.failed(service, address, time.monotonic(), request)

    def _retry(
        self, request: Request, job: Job, assignment: Assignment, result: RolloutResult
    ) -> float | None:
        error = result.error or {}
        if error.get("type") == RolloutHung.__name__:
            return None  # it has cost long enough
        said = f"{error.get('type')}: {error.get('what')}"
        again = request._errors.get(job) == said
        request._errors[job] = said
        if again and error.get("type") not in _PASSING:
            return None
        return self.scheduler.retry(assignment, time.monotonic())

    def _fail(self, request: Request, error: OmniloopError) -> None:
        """What ends a request: its folder cannot be written, or there are no workers."""
        if request.done.done():
            return
        request.done.set_exception(error)
        self._drop(request)
        for task in tuple(self._tasks):
            if task.get_name() == request.name and task is not asyncio.current_task():
                task.cancel()

    def _settle(self, request: Request) -> None:
        if not request._left and not request.done.done():
            request.done.set_result(None)
            self._drop(request)

    def _drop(self, request: Request) -> None:
        self._requests.pop(request.name, None)
        if request.name in self.scheduler.requests():
            self.scheduler.remove_request(request.name)
        self._executor.forget(request.source)

    def _tell(self, request: Request, event: RolloutStarted | RolloutEnded | WorkerLost) -> None:
        for listener in request.listeners:
            listener.tell(event)


def _broken(error: Exception, where: str) -> ServiceError:
    what = f"the run broke down: {type(error).__name__}: {error}"
    return ServiceError(what, where=where, remedy="go on with run.resume=true")


def _show(task: asyncio.Task[None], error: Exception) -> None:
    """Have the event loop tell the traceback of an error that nobody looked for."""
    context = {"message": "a batch broke down", "exception": error, "task": task}
    task.get_loop().call_exception_handler(context)
