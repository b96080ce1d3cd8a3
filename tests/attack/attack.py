"""Hostile calls, byte by byte: what the attack tests stand on, beside system.py.

Messages are put together by hand, so that a test can say what no client's library would: any
field, any number of times. Every loop here is bounded in count and time.
"""
import collections
import concurrent.futures
import hashlib
import inspect
import os
import pathlib
import sys
import threading
import uuid

import grpc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

REAPI = "/build.bazel.remote.execution.v2."
BOTS = "/google.devtools.remoteworkers.v1test2.Bots/"
MESSAGE_MAX = 16 << 20
CALL_SECONDS = 60


def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def number(field, value):
    """A varint field."""
    return varint(field << 3) + varint(value)


def data(field, value):
    """A length-delimited field: bytes, text, a message."""
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def digest(text):
    """HASH/SIZE as a Digest message."""
    hash_, size = text.strip().split("/")
    return data(1, hash_) + number(2, int(size))


def fields(message):
    """(number, value) of each field; bytes or int."""
    at = 0

    def read():
        nonlocal at
        n = shift = 0
        while True:
            byte = message[at]
            at += 1
            n |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return n

    while at < len(message):
        key = read()
        if key & 7 == 2:
            size = read()
            yield key >> 3, message[at:at + size]
            at += size
        elif key & 7 == 0:
            yield key >> 3, read()
        else:
            size = {1: 8, 5: 4}[key & 7]
            yield key >> 3, message[at:at + size]
            at += size


EVIL = [b"", b".", b"..", b"a/b", b"../../../../var/tmp/lazyroot-out", b"/var/tmp/lazyroot-out",
        b"a\0b", b"\x1b[2J\x1b]0;x\x07", "\u202e".encode(), b"\xff\xfe\xc0\xaf", b"x" * 5000, b"0" * 64]
EXTREMES = [0, 1, 2, (1 << 63) - 1, (1 << 64) - 1, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 40]


def mutated(dice, message, depth=0):
    """The message with one thing in it that is not as it was: a random.Random says what. Not a
    message: other bytes."""
    try:
        parts = list(fields(message))
        is_message = b"".join(put(n, v) for n, v in parts) == message and len(parts) > 0
    except (IndexError, KeyError):
        is_message = False
    if not is_message:
        return dice.choice([*EVIL, message[:len(message) // 2], message + b"\xff"])
    at = dice.randrange(len(parts))
    n, value = parts[at]
    change = dice.randrange(7)
    if change == 0:
        del parts[at]
    elif change == 1:
        parts[at:at] = [(n, value)] * dice.choice([1, 1, 1000])
    elif change == 2:
        parts.append((dice.randrange(1, 20), dice.choice(EVIL + EXTREMES)))
    elif isinstance(value, int):
        parts[at] = n, dice.choice(EXTREMES)
    else:
        parts[at] = n, (dice.choice(EVIL) if change == 3 or depth > 6
                        else mutated(dice, value, depth + 1))
    return b"".join(put(n, v) for n, v in parts)


def put(n, value):
    """A field of whichever kind."""
    return number(n, value) if isinstance(value, int) else data(n, value)


def field(message, wanted, default=None):
    """The last value of a field."""
    for n, value in fields(message):
        if n == wanted:
            default = value
    return default


def digest_of(blob):
    return data(1, hashlib.sha256(blob).hexdigest()) + number(2, len(blob))


class Peer:
    """One connection of its own: no other Peer shares it."""

    def __init__(self, address, options=(), credentials=None):
        target = address.split("//", 1)[1]
        options = [("grpc.use_local_subchannel_pool", 1),
                   ("grpc.max_receive_message_length", -1),
                   ("grpc.max_send_message_length", -1), *options]
        self.channel = (grpc.secure_channel(target, credentials, options=options)
                        if credentials else grpc.insecure_channel(target, options=options))

    def call(self, method, request, timeout=CALL_SECONDS, metadata=None):
        """The reply's bytes; raises grpc.RpcError."""
        return self.channel.unary_unary(method)(request, timeout=timeout, metadata=metadata)

    def status(self, method, request, **kwargs):
        """The name of the status that a unary call ends with."""
        return self.refusal(method, request, **kwargs)[0]

    def refusal(self, method, request, **kwargs):
        """(status name, its text)."""
        try:
            self.call(method, request, **kwargs)
            return "OK", ""
        except grpc.RpcError as error:
            return error.code().name, error.details()

    def server_stream(self, method, request, timeout=CALL_SECONDS):
        return self.channel.unary_stream(method)(request, timeout=timeout)

    def client_stream(self, method, requests, timeout=CALL_SECONDS):
        return self.channel.stream_unary(method)(requests, timeout=timeout)

    def put(self, *blobs):
        """Uploads each; the digest of the last."""
        for blob in blobs:
            hash_ = hashlib.sha256(blob).hexdigest()
            name = f"uploads/{uuid.uuid4()}/blobs/{hash_}/{len(blob)}"
            chunks = [blob[at:at + (1 << 20)] for at in range(0, max(len(blob), 1), 1 << 20)]
            self.client_stream("/google.bytestream.ByteStream/Write", (
                (data(1, name) if not i else b"") + number(2, i << 20)
                + number(3, i == len(chunks) - 1) + data(10, chunk)
                for i, chunk in enumerate(chunks)))
        return digest_of(blob)

    def execute(self, command, root=b"", extra=b"", timeout=CALL_SECONDS):
        """Runs a Command, given as its encoding, on an input root that is there; extra: more
        of the Action. (name of the status, its text, the ActionResult's bytes or None)."""
        action = (data(1, self.put(command)) + data(2, root or digest_of(b"")) + number(7, 1)
                  + extra)
        request = data(6, self.put(action)) + number(3, 1)
        try:
            last = list(self.server_stream(REAPI + "Execution/Execute", request, timeout))[-1]
        except grpc.RpcError as error:  # the server itself refuses
            return error.code().name, error.details(), None
        if field(last, 4) is not None:  # the Operation's own error
            return status_of(field(last, 4)) + (None,)
        response = field(field(last, 5), 2)
        return status_of(field(response, 3, b"")) + (field(response, 1),)

    def close(self):
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def status_of(message):
    """(name, text) of a google.rpc.Status."""
    code = field(message, 1, 0)
    name = next(c.name for c in grpc.StatusCode if c.value[0] == code)
    return name, field(message, 2, b"").decode(errors="replace")


def shell(script):
    """The start of a Command that runs a script."""
    return (data(1, "/bin/sh") + data(1, "-c") + data(1, script)
            + data(2, data(1, "PATH") + data(2, "/usr/bin:/bin")))


def peak_rss(pid):
    """The most memory that a process held so far, in bytes."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError("the process has ended")


def is_sanitized():
    """Sanitized programs need several times the memory and time: bounds on those are for others."""
    return any(b"__asan" in (pathlib.Path(os.environ["LAZYROOT_BIN"]) / name).read_bytes()
               for name in ("lazyroot-server",))


class Hostile:
    """A server whose methods are functions: path -> function(request, context), which returns
    the reply's bytes or yields several. What it has not is UNIMPLEMENTED. calls counts."""

    def __init__(self, methods, listen="127.0.0.1:0"):
        self.calls = collections.Counter()
        self.stopped = threading.Event()
        self.pool = concurrent.futures.ThreadPoolExecutor(32)
        self.server = grpc.server(self.pool)
        self.server.add_generic_rpc_handlers((self,))
        self.methods = methods
        self.address = f"grpc://127.0.0.1:{self.server.add_insecure_port(listen)}"
        self.server.start()

    def service(self, details):
        """Called by grpc."""
        function = self.methods.get(details.method)
        if function is None:
            return None
        self.calls[details.method.rsplit("/", 1)[1]] += 1
        if inspect.isgeneratorfunction(function):
            return grpc.unary_stream_rpc_method_handler(function)
        return grpc.unary_unary_rpc_method_handler(function)

    def never(self, request, context):
        """Says nothing as long as anybody listens."""
        while context.is_active() and not self.stopped.wait(0.05):
            pass
        return b""

    def close(self):
        self.stopped.set()
        self.server.stop(None)
        self.pool.shutdown(wait=False)
