"""A TCP proxy on loopback that holds every byte back for a while: distance, for tests on a
kernel without netem. Threads of one process; close() ends them. Where `most` is set, it passes
nothing on once so many bytes have come, until `most` is None again. cut() breaks all connections
off."""
import contextlib
import heapq
import selectors
import socket
import threading
import time


class DelayProxy:
    def __init__(self, target, delay_s):
        host, port = target.split("//")[-1].rsplit(":", 1)
        self.target = (host, int(port))
        self.delay = delay_s
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"grpc://127.0.0.1:{self.listener.getsockname()[1]}"
        self.bytes = 0
        self.most = None
        self.is_closing = False
        self.is_cutting = False
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def close(self):
        self.is_closing = True
        self.thread.join()

    def cut(self):
        self.is_cutting = True

    def serve(self):
        poll = selectors.DefaultSelector()
        poll.register(self.listener, selectors.EVENT_READ)
        peers, held, order = {}, [], 0
        while not self.is_closing:
            if self.is_cutting:
                self.is_cutting = False
                for a in peers:
                    with contextlib.suppress(KeyError):
                        poll.unregister(a)
                    a.close()
                peers, held = {}, []
            is_full = self.most is not None and self.bytes >= self.most
            wait = max(0.0, held[0][0] - time.monotonic()) if held and not is_full else 0.1
            for key, _ in poll.select(min(wait, 0.1)):
                if key.fileobj is self.listener:
                    near, _ = self.listener.accept()
                    try:
                        far = socket.create_connection(self.target)
                    except OSError:  # the server is away
                        near.close()
                        continue
                    for a, b in ((near, far), (far, near)):
                        a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        peers[a] = b
                        poll.register(a, selectors.EVENT_READ)
                    continue
                try:
                    data = key.fileobj.recv(1 << 18)
                except OSError:
                    data = b""
                if not data:
                    poll.unregister(key.fileobj)
                self.bytes += len(data)
                order += 1
                heapq.heappush(held, (time.monotonic() + self.delay, order, key.fileobj, data))
            while held and not is_full and held[0][0] <= time.monotonic():
                _, _, source, data = heapq.heappop(held)
                to = peers[source]
                try:
                    to.setblocking(True)
                    if data:
                        to.sendall(data)
                    else:
                        to.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
        for a in peers:
            a.close()
        self.listener.close()
