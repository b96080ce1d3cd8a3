"""The scheduler's side of Buildbarn's OperationQueue, as it was observed, for workers under test.

Jobs are given to it directly, as its clients' would be after Execute: the Action is in the real
storage, which is not its business. It keeps what it knows in memory only, and a restart loses
that. Faults are said for the calls to come.
"""
import collections
import contextlib
import os
import threading
import time

import grpc

from attack import Hostile, data, digest_of, field, fields, number, shell, status_of
from system import PATIENCE, Failed, Port

METHOD = "/buildbarn.remoteworker.OperationQueue/Synchronize"
STATES = {2: "started", 3: "fetching_inputs", 4: "running", 5: "uploading_outputs", 6: "completed"}


def pairs(message, wanted):
    """(name, value) of each entry of a map, or property."""
    return [(field(entry, 1, b"").decode(), field(entry, 2, b"").decode())
            for n, entry in fields(message) if n == wanted]


def timestamp(seconds):
    return number(1, int(seconds)) + number(2, int(seconds % 1 * 1e9))


def idle():
    return data(1, timestamp(time.time())) + data(2, data(1, b""))


def action_of(peer, script, outputs=(), extra=b""):
    """An Action in the storage, its command a script: (its digest's message, its bytes)."""
    command = shell(script) + b"".join(data(7, path) for path in outputs)
    action = data(1, peer.put(command)) + data(2, digest_of(b"")) + extra + data(9, os.urandom(9))
    peer.put(action)
    return digest_of(action), action


class Task:
    def __init__(self, digest, action, instance="", more=b"", platform=()):
        self.digest, self.action, self.instance = digest, action, instance
        self.more = more  # fields of its own in DesiredState.Executing
        self.platform = list(platform)
        self.stages = []  # as the worker told them, each once in a row
        self.responses = []  # ExecuteResponses: one, where all is well
        self.is_cancelled = False
        self.attempts = 0
        self.worker = None
        self.changed = threading.Condition()

    def note(self, stage):
        with self.changed:
            if not self.stages or self.stages[-1] != stage:
                self.stages.append(stage)
            self.changed.notify_all()

    def end(self, response):
        with self.changed:
            self.responses.append(response)
            self.changed.notify_all()

    def wait(self, done, what):
        with self.changed:
            if not self.changed.wait_for(done, PATIENCE):
                raise Failed(f"waited in vain for {what} of a task; so far {self.stages}")

    def wait_stage(self, stage):
        self.wait(lambda: stage in self.stages, stage)

    def response(self):
        self.wait(lambda: self.responses, "the response")
        return self.responses[0]

    def result(self):
        return field(self.response(), 1, b"")

    def status(self):
        """(name, text) of the response's."""
        return status_of(field(self.response(), 3, b""))


class Worker:
    task = None
    is_calling = False


class Call:
    def __init__(self, request):
        """What a worker says."""
        self.id = pairs(request, 1)
        self.prefix = field(request, 2, b"").decode()
        self.platform = pairs(field(request, 3, b""), 1)
        self.size_class = field(request, 5, 0)
        self.prefers_idle = bool(field(request, 6, 0))
        state = field(request, 4)
        executing = field(state or b"", 2)
        self.digest = field(executing, 1) if executing is not None else None
        self.state = "idle"
        for n, value in fields(executing or b""):
            if n in STATES:
                self.state, self.value = STATES[n], value
        self.is_whole = state is not None
        self.at = time.monotonic()


class Scheduler:
    def __init__(self, hold=120, beat=10):
        self.hold, self.beat = hold, beat
        self.port = Port()
        # For the calls to come, one each: a status, seconds, "never", "lost" (its answer), or
        # the answer's bytes; in a pair with a state, for the next one that tells it.
        self.faults = collections.deque()
        self.calls = []
        self.lock = threading.Condition()
        self.start()

    def start(self):
        self.workers = collections.defaultdict(Worker)
        self.queue = []
        self.server = Hostile({METHOD: self.synchronize}, self.port.address.split("//")[1])
        self.address = self.server.address

    def restart(self):
        self.server.close()
        self.server.server.stop(None).wait(PATIENCE)  # its calls are over
        self.start()

    def close(self):
        self.server.close()
        self.port.close()

    def execute(self, *args, **kwargs):
        task = Task(*args, **kwargs)
        with self.lock:
            self.queue.append(task)
            self.lock.notify_all()
        return task

    def cancel(self, task):
        """Its last client has gone: the worker hears of it at its next call."""
        with self.lock:
            task.is_cancelled = True
            self.queue = [t for t in self.queue if t is not task]

    def said(self, state):
        return [call for call in self.calls if call.state == state]

    def wait_call(self, wanted, what):
        with self.lock:
            if not self.lock.wait_for(lambda: any(wanted(c) for c in self.calls), PATIENCE):
                raise Failed(f"waited in vain for a call: {what}")

    def fault(self, state):
        first = self.faults[0] if self.faults else None
        if isinstance(first, tuple) and first[0] != state:
            return None
        if self.faults:
            self.faults.popleft()
        return first[1] if isinstance(first, tuple) else first

    def synchronize(self, request, context):
        call = Call(request)
        with self.lock:
            fault = self.fault(call.state)
            self.calls.append(call)
            self.lock.notify_all()
        if isinstance(fault, grpc.StatusCode):
            context.abort(fault, "said by the test")
        if fault == "never":
            return self.server.never(request, context)
        if isinstance(fault, bytes):
            return fault
        if isinstance(fault, (int, float)):
            time.sleep(fault)
        if not call.is_whole or call.platform != sorted(call.platform):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no state, or an unsorted platform")
        worker = self.workers[tuple(sorted(call.id))]
        with self.alone(worker, context):
            answer = self.answer(worker, call, context)
        if fault == "lost":
            context.abort(grpc.StatusCode.UNAVAILABLE, "the answer is lost")
        return answer

    @contextlib.contextmanager
    def alone(self, worker, context):
        with self.lock:
            if worker.is_calling:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "a call of this worker hangs")
            worker.is_calling = True
        try:
            yield
        finally:
            with self.lock:
                worker.is_calling = False

    def answer(self, worker, call, context):
        with self.lock:
            task = worker.task
            if task and call.digest == task.digest:
                if call.state == "completed":
                    worker.task = None
                    if not task.is_cancelled:
                        task.end(call.value)
                    return self.next(worker, call, context)
                task.note(call.state)
                if not task.is_cancelled:
                    return data(1, timestamp(time.time() + self.beat))
                worker.task = None
                return idle()
            if task:  # it says something else
                task.attempts += 1
                if task.attempts < 10:
                    return self.executing(call, task)
                worker.task = None
                task.end(data(3, number(1, grpc.StatusCode.INTERNAL.value[0])))
            if call.digest is not None and call.state != "completed" and not self.queue:
                return idle()
            return self.next(worker, call, context)

    def next(self, worker, call, context):
        """Lock held: the next task, or idle after a while without one."""
        end = time.monotonic() + (0 if call.prefers_idle else self.hold)
        while True:
            is_over = self.server.stopped.is_set() or not context.is_active()
            task = None if is_over or call.prefers_idle else self.pick(call)
            if task:
                worker.task, task.worker = task, dict(call.id)
                return self.executing(call, task)
            if is_over or time.monotonic() >= end:
                return idle()
            self.lock.wait(0.05)

    def pick(self, call):
        for task in self.queue:
            inside = not call.prefix or f"{task.instance}/".startswith(f"{call.prefix}/")
            if inside and task.platform == call.platform:
                self.queue.remove(task)
                return task
        return None

    def executing(self, call, task):
        suffix = task.instance[len(call.prefix):].lstrip("/")
        state = data(1, task.digest) + data(2, task.action) + data(4, timestamp(1_000_000_000)) \
            + data(7, suffix) + task.more
        return data(1, timestamp(time.time() + self.beat)) + data(2, data(2, state))
