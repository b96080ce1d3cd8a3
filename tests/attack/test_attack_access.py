"""Who may come in: strangers, wrong tokens, certificates of others, bots that take another's
place. All of it happens in a network namespace of its own, with an address that is not loopback,
so that a peer can be from elsewhere."""
import ctypes
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

import grpc

from attack import BOTS, REAPI, Peer, data, digest, field, fields, number
from authority import Authority, channel_credentials, install
from system import BIN, Process, System, need_root, sandboxes_with, wait_until

ELSEWHERE = "192.0.2.1"  # of this namespace, but not loopback
CAPABILITIES = REAPI + "Capabilities/GetCapabilities"
UPDATE_RESULT = REAPI + "ActionCache/UpdateActionResult"
GET_RESULT = REAPI + "ActionCache/GetActionResult"
FIND_MISSING = REAPI + "ContentAddressableStorage/FindMissingBlobs"
EXECUTE = REAPI + "Execution/Execute"
OPERATIONS = "/google.longrunning.Operations/"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/0"
EVERY_METHOD = [
    FIND_MISSING, GET_RESULT, UPDATE_RESULT, CAPABILITIES, EXECUTE,
    *(REAPI + "ContentAddressableStorage/" + name
      for name in ("BatchUpdateBlobs", "BatchReadBlobs", "GetTree")),
    *("/google.bytestream.ByteStream/" + name for name in ("Read", "Write", "QueryWriteStatus")),
    REAPI + "Execution/WaitExecution",
    *(OPERATIONS + name for name in ("GetOperation", "ListOperations", "CancelOperation")),
    *(BOTS + name for name in ("CreateBotSession", "UpdateBotSession")),
    *("/build.bazel.remote.asset.v1." + name for name in (
        "Fetch/FetchBlob", "Fetch/FetchDirectory", "Push/PushBlob", "Push/PushDirectory")),
    "/build.bazel.remote.logstream.v1.LogStreamService/CreateLogStream",
    "/grpc.health.v1.Health/Watch",
]


def setUpModule():
    """Only what this thread starts from here on is in the namespace; that is everything."""
    need_root()
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", f"{ELSEWHERE}/32", "dev", "lo"], check=True)


def bearer(token):
    return (("authorization", "Bearer " + token),)


def update_request(instance=""):
    return data(1, instance) + data(2, digest(EMPTY)) + data(3, b"")


def cache_updates(peer, instance="", metadata=None):
    """(may write the action cache, may execute), as GetCapabilities says."""
    reply = peer.call(CAPABILITIES, data(1, instance), metadata=metadata)
    update = field(field(reply, 1), 2, b"")
    return bool(field(update, 1, 0)), bool(field(field(reply, 2), 2, 0))


class Case(unittest.TestCase):
    def open(self, *args, listen="grpc://127.0.0.1:0"):
        """A server; where it listens to all, .outside is its address from elsewhere."""
        one = System.__new__(System)
        start = System.start_server
        one.start_server = lambda: start(one, listen)
        one.__init__(args)
        one.outside = one.address.replace("0.0.0.0", ELSEWHERE)
        one.address = one.address.replace("0.0.0.0", "127.0.0.1")
        self.addCleanup(self.close, one)
        return one

    def close(self, one):
        self.assertIsNone(one.server.popen.poll(), one.server.err()[-2000:])
        one.close()

    def start_refused(self, *args):
        """What a server says that does not start."""
        run = subprocess.run([BIN / "lazyroot-server", "--data", self.dir / "never", *args],
                             capture_output=True, text=True, timeout=60, check=False)
        self.assertNotEqual(run.returncode, 0)
        return run.stderr


class DefaultTest(Case):
    def test_this_machine_may_come_in_and_may_not_write_results(self):
        one = self.open()
        self.assertIn("only this machine is served", one.server.err())
        with Peer(one.address) as peer:
            self.assertEqual(cache_updates(peer), (False, True))
            status, text = peer.refusal(UPDATE_RESULT, update_request())
            self.assertEqual(status, "PERMISSION_DENIED")
            self.assertIn("ac-write", text)
            self.assertIn("--grant 'local=ac-write'", text)
            self.assertEqual(peer.status(GET_RESULT, data(2, digest(EMPTY))), "NOT_FOUND")

    def test_a_server_without_a_word_listens_on_loopback(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-access-", dir="/var/tmp"))
        self.addCleanup(shutil.rmtree, folder)
        server = Process("server", [BIN / "lazyroot-server", "--data", folder / "data"], folder)
        self.addCleanup(server.stop)
        self.assertEqual(server.wait_line("listening on "), "listening on grpc://127.0.0.1:8980")
        with Peer(f"grpc://{ELSEWHERE}:8980") as peer:
            self.assertEqual(peer.status(CAPABILITIES, b""), "UNAVAILABLE")

    def test_a_unix_socket_is_this_machine(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-access-", dir="/var/tmp"))
        self.addCleanup(shutil.rmtree, folder)
        one = self.open("--grant", "local=cas-read", listen=f"unix:{folder}/socket")
        self.assertEqual(one.lazyroot("capabilities").code, 0)
        self.assertIn("cas-write", one.lazyroot("upload", "/etc/passwd").err)

    def test_a_grant_gives_ac_write_and_takes_the_rest(self):
        one = self.open("--grant", "local=ac-write")
        with Peer(one.address) as peer:
            self.assertEqual(cache_updates(peer), (True, False))
            self.assertEqual(peer.status(UPDATE_RESULT, update_request()), "OK")
            self.assertEqual(peer.status(FIND_MISSING, b""), "PERMISSION_DENIED")
            self.assertEqual(peer.status(EXECUTE, b""), "PERMISSION_DENIED")

    def test_rights_end_at_their_instance(self):
        one = self.open("--instance", "a", "--instance", "b/c", "--grant", "local=all@a",
                        "--grant", "local=cas-read,operate@b/c")
        with Peer(one.address) as peer:
            self.assertEqual(cache_updates(peer, "a"), (True, True))
            self.assertEqual(cache_updates(peer, "b/c"), (False, False))
            self.assertEqual(peer.status(UPDATE_RESULT, update_request("a")), "OK")
            status, text = peer.refusal(UPDATE_RESULT, update_request("b/c"))
            self.assertEqual(status, "PERMISSION_DENIED")
            self.assertIn('"b/c"', text)
            self.assertEqual(peer.status(FIND_MISSING, data(1, "b/c")), "OK")
            self.assertEqual(peer.status(EXECUTE, data(1, "b/c")), "PERMISSION_DENIED")
            for session in ("b/c/00000000-0000-4000-8000-000000000000", "b/c/", "/", "x/a/1"):
                self.assertEqual(
                    peer.status(BOTS + "UpdateBotSession", data(1, session) + data(2, b"")),
                    "PERMISSION_DENIED")
            self.assertEqual(peer.status(BOTS + "CreateBotSession",
                                         data(1, "b/c") + data(2, data(2, "bot"))),
                             "PERMISSION_DENIED")
            self.assertEqual(peer.status(OPERATIONS + "GetOperation", data(1, "b/c/x")),
                             "NOT_FOUND")
            self.assertEqual(peer.status("/google.bytestream.ByteStream/QueryWriteStatus",
                                         data(1, "b/c/uploads/u/blobs/" + EMPTY)),
                             "PERMISSION_DENIED")


class TlsCase(Case):
    """A CA, a server's certificate, a token; a peer is from elsewhere."""

    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-access-", dir="/var/tmp"))
        cls.ours, cls.strange = Authority(cls.dir, "ours"), Authority(cls.dir, "strange")
        cls.server = cls.ours.issue("server", names=("IP:127.0.0.1", f"IP:{ELSEWHERE}"))
        cls.token = cls.dir / "token"
        cls.token.write_text("correct.horse\n")
        cls.tls = ("--tls-cert", cls.server[0], "--tls-key", cls.server[1])

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def peer(self, one, pair=None, ca=None):
        peer = Peer(one.outside, credentials=channel_credentials(ca or self.ours.ca, pair))
        self.addCleanup(peer.close)
        return peer


class ElsewhereTest(TlsCase):
    def test_what_is_open_to_others_without_a_rule_does_not_start(self):
        self.assertIn("--insecure", self.start_refused("--listen", "grpc://0.0.0.0:0"))
        self.assertIn("grpcs://", self.start_refused("--listen", "grpc://[::]:0", "--grant",
                                                     "anyone=all"))
        self.assertIn("--grant", self.start_refused("--listen", "grpcs://0.0.0.0:0", *self.tls))
        self.assertIn("TLS", self.start_refused("--listen", "grpc://127.0.0.1:0", *self.tls))
        self.assertIn("--grant", self.start_refused(
            "--listen", "grpcs://127.0.0.1:0", *self.tls, "--tls-client-ca", self.ours.ca))
        self.assertIn("belong together", self.start_refused(
            "--listen", "grpcs://127.0.0.1:0", "--tls-cert", self.server[0], "--tls-key",
            self.ours.dir / "ca.key"))

    def test_nobody_comes_in_with_nothing(self):
        one = self.open(*self.tls, "--grant", f"token:{self.token}=all", "--grant", "local=all",
                        listen="grpcs://0.0.0.0:0")
        peer = self.peer(one)
        for method in EVERY_METHOD:
            for metadata in ((), bearer("wrong"), bearer(""), bearer("correct"),
                             bearer("correct.horse!"), bearer("correct.horsf"),
                             (("authorization", "correct.horse"),),
                             (("authorization", "Basic correct.horse"),)):
                self.assertEqual(peer.status(method, b"", metadata=metadata), "UNAUTHENTICATED",
                                 (method, metadata))
        self.assertEqual(cache_updates(peer, metadata=bearer("correct.horse")), (True, True))
        self.assertEqual(peer.status(FIND_MISSING, b"", metadata=bearer("correct.horse")), "OK")

    def test_only_the_named_certificates_come_in(self):
        one = self.open(*self.tls, "--tls-client-ca", self.ours.ca, "--grant", "cn:me=cas-read",
                        "--grant", "san:spiffe://test/me=cas-read", "--grant",
                        "subject:CN=whole,O=test=cas-read", listen="grpcs://0.0.0.0:0")
        let_in = [self.ours.issue("me"),
                  self.ours.issue("uri", names=("DNS:x", "URI:spiffe://test/me")),
                  self.ours.issue("whole", "/O=test/CN=whole")]
        for pair in let_in:
            self.assertEqual(self.peer(one, pair).status(FIND_MISSING, b""), "OK", pair)
        for pair in (self.ours.issue("other"), self.ours.issue("me2", "/CN=Me"),
                     self.ours.issue("sans", "/CN=x", names=("DNS:me",)),
                     self.ours.issue("cn-uri", "/CN=spiffe:\\/\\/test\\/me"),
                     self.ours.issue("o", "/O=me/CN=x"),
                     self.ours.issue("longer", names=("URI:spiffe://test/me2",))):
            status, text = self.peer(one, pair).refusal(FIND_MISSING, b"")
            self.assertEqual(status, "PERMISSION_DENIED", pair)
            self.assertIn("cas-read", text)
        # no certificate, or one by somebody else: not even the handshake succeeds
        self.assertEqual(self.peer(one).status(FIND_MISSING, b""), "UNAVAILABLE")
        self.assertEqual(self.peer(one, self.strange.issue("me")).status(FIND_MISSING, b""),
                         "UNAVAILABLE")

    def test_where_certificates_are_optional_a_false_one_is_none(self):
        one = self.open(*self.tls, "--tls-client-ca", self.ours.ca, "--grant", "cn:me=cas-read",
                        "--grant", f"token:{self.token}=ac-read", listen="grpcs://0.0.0.0:0")
        self.assertEqual(self.peer(one, self.ours.issue("me")).status(FIND_MISSING, b""), "OK")
        self.assertEqual(self.peer(one).status(FIND_MISSING, b""), "UNAUTHENTICATED")
        self.assertEqual(self.peer(one).status(GET_RESULT, data(2, digest(EMPTY)),
                                               metadata=bearer("correct.horse")), "NOT_FOUND")
        self.assertEqual(self.peer(one, self.strange.issue("me")).status(FIND_MISSING, b""),
                         "UNAVAILABLE")
        # issued by one of ours that is no authority
        signed = Authority(self.dir, "signed")
        install(signed.ca, self.ours.issue("me")[0])
        install(signed.dir / "ca.key", self.ours.dir / "me.key")
        cert, key = signed.issue("me")
        cert.write_bytes(cert.read_bytes() + signed.ca.read_bytes())
        self.assertEqual(self.peer(one, (cert, key)).status(FIND_MISSING, b""), "UNAVAILABLE")

    def test_insecure_is_what_it_says(self):
        one = self.open("--insecure", listen="grpc://0.0.0.0:0")
        self.assertIn("everybody", one.server.err())
        with Peer(one.outside) as peer:
            self.assertEqual(cache_updates(peer), (False, True))
            self.assertEqual(peer.status(UPDATE_RESULT, update_request()), "UNAUTHENTICATED")
        run = one.lazyroot("capabilities", "--token-file", self.token, address=one.outside)
        self.assertEqual(run.code, 2)
        self.assertIn("anyone on the way could read the token", run.err)
        run = one.lazyroot("capabilities", "--token-file", self.token, "--insecure",
                           address=one.outside)
        self.assertEqual(run.code, 0, run.err)


class Bot:
    """A hostile or an honest worker, by hand."""

    def __init__(self, peer, name, metadata=None):
        self.peer, self.name, self.metadata = peer, name, metadata
        self.session = ""

    def create(self):
        try:
            status, reply = "OK", self.peer.call(
                BOTS + "CreateBotSession", data(2, data(2, self.name) + number(3, 1)),
                metadata=self.metadata)
            self.session = field(reply, 1).decode()
        except grpc.RpcError as error:
            status = error.code().name
        return status

    def update(self, *leases, session=None, timeout=5):
        """The leases of the answer; each of leases is (id, state)."""
        session = self.session if session is None else session
        body = data(1, session) + data(2, self.name) + number(3, 1) + b"".join(
            data(5, data(7, id_) + number(2, state)) for id_, state in leases)
        reply = self.peer.call(BOTS + "UpdateBotSession", data(1, session) + data(2, body),
                               timeout=timeout, metadata=self.metadata)
        return [value for n, value in fields(reply) if n == 5]

    def refused(self, *leases, **kwargs):
        try:
            self.update(*leases, **kwargs)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name


PENDING, ACTIVE, COMPLETED, CANCELLED = 1, 2, 4, 5


class BotTest(TlsCase):
    """A session belongs to whoever made it."""

    def setUp(self):
        self.one = self.open(*self.tls, "--tls-client-ca", self.ours.ca, "--grant",
                             "cn:bot-a=worker", "--grant", "cn:bot-b=worker", "--grant",
                             "local=all", "--grant", "token:%s=worker" % self.token,
                             listen="grpcs://0.0.0.0:0")
        self.a = self.peer(self.one, self.ours.issue("bot-a"))
        self.b = self.peer(self.one, self.ours.issue("bot-b"))

    def start_job(self, bot):
        """A client's run in the hands of the bot: its process and the lease's id."""
        client = self.one.popen("run", "--tls-ca", str(self.ours.ca), "--", "/bin/true")
        self.addCleanup(client.communicate)
        self.addCleanup(client.kill)
        leases = wait_until(bot.update, "a lease")
        lease = field(leases[0], 7).decode()
        bot.update((lease, ACTIVE))
        return client, lease

    def test_another_credential_takes_nothing(self):
        mine, thief = Bot(self.a, "w"), Bot(self.b, "w")
        self.assertEqual(mine.create(), "OK")
        client, lease = self.start_job(mine)
        self.assertEqual(thief.create(), "ALREADY_EXISTS")
        self.assertEqual(Bot(self.a, "w", bearer("correct.horse")).create(), "OK")  # the same
        mine_again = Bot(self.a, "w")
        self.assertEqual(mine_again.create(), "OK")
        self.assertEqual(mine.refused(), "ALREADY_EXISTS")  # taken over by its owner
        lease = field(wait_until(mine_again.update, "the lease again")[0], 7).decode()
        mine_again.update((lease, ACTIVE))
        # knowing the session's name is not enough
        for state in (ACTIVE, COMPLETED, CANCELLED):
            self.assertEqual(thief.refused((lease, state), session=mine_again.session),
                             "PERMISSION_DENIED")
        self.assertEqual(thief.refused(session=mine_again.session), "PERMISSION_DENIED")
        by_token = Bot(self.peer(self.one), "w", bearer("correct.horse"))
        self.assertEqual(by_token.create(), "ALREADY_EXISTS")
        self.assertEqual(by_token.refused(session=mine_again.session), "PERMISSION_DENIED")
        # nor is a session of one's own
        thief.name = "thief"
        self.assertEqual(thief.create(), "OK")
        for state in (ACTIVE, COMPLETED, CANCELLED):
            self.assertEqual(thief.update((lease, state)), [])
        self.assertIn("does not hold", self.one.server.err())
        kept = mine_again.update((lease, ACTIVE))
        self.assertEqual(field(kept[0], 7).decode(), lease)
        self.assertIsNone(client.poll())

    def test_taking_over_does_not_wear_the_job_out(self):
        bot = Bot(self.a, "w")
        self.assertEqual(bot.create(), "OK")
        client, lease = self.start_job(bot)
        for _ in range(6):  # more often than a job survives workers
            waiting = self.a.channel.unary_unary(BOTS + "UpdateBotSession").future(
                data(1, bot.session) + data(2, data(1, bot.session) + data(2, "w") + number(
                    3, 1) + data(5, data(7, lease) + number(2, ACTIVE))), timeout=60)
            time.sleep(1)  # let it wait there
            bot = Bot(self.a, "w")
            self.assertEqual(bot.create(), "OK")
            waiting.result()  # the one that lost its session is told at once
            lease = field(wait_until(bot.update, "the lease again")[0], 7).decode()
            bot.update((lease, ACTIVE))
        self.assertIsNone(client.poll())

    def test_names_of_sessions_cannot_be_guessed(self):
        names = set()
        for i in range(50):
            bot = Bot(self.a, f"w{i}")
            self.assertEqual(bot.create(), "OK")
            names.add(bot.session)
        self.assertEqual(len(names), 50)
        values = sorted(int(name.replace("-", ""), 16) for name in names)
        self.assertGreater(min(b - a for a, b in zip(values, values[1:])), 2 ** 64)

    def test_of_two_workers_of_one_name_the_older_ends(self):
        """The same credential: both may have it, but they do not take it from each other."""
        options = ("--tls-ca", self.ours.ca, "--token-file", self.token)
        old, new = (self.one.start_worker(*options, name="twin", cache=self.one.dir / cache)
                    for cache in ("old-cache", "new-cache"))
        self.assertEqual(old.popen.wait(60), 1)
        self.assertIn("another worker of the same name took over", old.err())
        self.assertIsNone(new.popen.poll())

    def test_a_killed_worker_comes_back_under_its_name(self):
        options = ("--tls-ca", self.ours.ca, "--token-file", self.token)
        worker = self.one.start_worker(*options, name="again")
        worker.popen.kill()
        worker.popen.wait()
        again = self.one.start_worker(*options, name="again", cache=worker.cache)
        self.assertNotIn("somebody else", again.err())

    def test_a_worker_is_told_that_its_name_is_taken(self):
        self.assertEqual(Bot(self.b, "taken").create(), "OK")
        pair = self.ours.dir / "bot-a.pem", self.ours.dir / "bot-a.key"
        worker = self.one.start_worker("--tls-ca", self.ours.ca, "--tls-cert", pair[0],
                                       "--tls-key", pair[1], name="taken", wait=False)
        wait_until(lambda: "is here already, and it is somebody else's" in worker.err(),
                   "the worker's word")
        self.assertIsNone(worker.popen.poll())

    def test_a_worker_without_the_right_is_told_and_ends(self):
        pair = self.ours.issue("nobody")
        worker = self.one.start_worker("--tls-ca", self.ours.ca, "--tls-cert", pair[0],
                                       "--tls-key", pair[1], wait=False,
                                       server=self.one.outside)
        self.assertNotEqual(worker.popen.wait(60), 0)
        self.assertIn("cn:nobody=", worker.err())


class RotationTest(TlsCase):
    """The real programs, all with certificates, while those are replaced by a new CA's."""

    def test_programs_take_new_certificates_while_they_run(self):
        new = Authority(self.dir, "new")
        names = {"server": ("server", "IP:127.0.0.1"), "worker": ("worker", "DNS:w"),
                 "client": ("client", "DNS:c")}
        live = self.dir / "live"
        live.mkdir()

        def use(authority):
            for file, (name, san) in names.items():
                cert, key = authority.issue(name, names=(san,))
                install(live / f"{file}.pem", cert)
                install(live / f"{file}.key", key)
            install(live / "ca.pem", authority.ca)

        def tls(name):
            return ("--tls-ca", live / "ca.pem", "--tls-cert", live / f"{name}.pem", "--tls-key",
                    live / f"{name}.key")

        use(self.ours)
        old = {name: self.peer_files(live, name) for name in names}
        one = self.open("--tls-cert", live / "server.pem", "--tls-key", live / "server.key",
                        "--tls-client-ca", live / "ca.pem", "--grant",
                        "cn:worker=worker,cas-read,cas-write", "--grant",
                        "cn:client=execute,cas-read,cas-write,ac-read",
                        listen="grpcs://0.0.0.0:0")
        worker = one.start_worker(*tls("worker"))
        self.assertEqual(one.sh("echo one", *tls("client")).text, "one\n")
        marker = f"4.{os.getpid()}1"
        running = one.popen("run", *map(str, tls("client")), "--", "/bin/sh", "-c",
                            f"/bin/sleep {marker}; echo ran through")
        self.addCleanup(running.communicate)
        self.addCleanup(running.kill)
        wait_until(lambda: sandboxes_with(marker), "the run")
        use(new)
        self.assertEqual(one.sh("echo two", *tls("client")).text, "two\n")
        with Peer(one.address, credentials=channel_credentials(*old["client"])) as peer:
            self.assertEqual(peer.status(CAPABILITIES, b""), "UNAVAILABLE")
        self.assertEqual(running.stdout.read(), b"ran through\n")
        self.assertEqual(running.wait(60), 0, running.stderr.read())
        # a worker whose connection ends comes back with the new ones
        port = one.address.rsplit(":", 1)[1]
        one.server.stop()
        one.processes.remove(one.server)
        System.start_server(one, f"grpcs://0.0.0.0:{port}")
        one.address = one.address.replace("0.0.0.0", "127.0.0.1")
        self.assertEqual(one.sh("echo three", *tls("client")).text, "three\n")
        self.assertEqual(worker.stop(), 0)

    def peer_files(self, live, name):
        """Copies of what a program has now: (ca, (cert, key))."""
        kept = self.dir / f"old-{name}"
        kept.mkdir()
        for file in ("ca.pem", f"{name}.pem", f"{name}.key"):
            install(kept / file, live / file)
        return kept / "ca.pem", (kept / f"{name}.pem", kept / f"{name}.key")

    def test_tokens_are_replaced_on_both_sides(self):
        mine, its = self.dir / "mine", self.dir / "its"
        mine.write_text("one\n")
        its.write_text("one\n")
        one = self.open(*self.tls, "--grant", f"token:{its}=worker,cas-read,cas-write,execute",
                        listen="grpcs://0.0.0.0:0")
        options = ("--tls-ca", self.ours.ca, "--token-file", mine)
        worker = one.start_worker(*options)
        self.assertEqual(one.sh("echo one", *options).text, "one\n")
        install(its, self.write("two"))
        wait_until(lambda: "were read again" in one.server.err(), "the server's reading")
        run = one.sh("echo no", *options)
        self.assertNotEqual(run.code, 0)
        self.assertIn("does not know", run.err)
        install(its, self.write("two\none"))  # both, so that nobody is refused meanwhile
        wait_until(lambda: one.server.err().count("were read again") > 1, "the reading")
        self.assertEqual(one.sh("echo one", *options).text, "one\n")
        install(mine, self.write("two"))
        self.assertEqual(one.sh("echo two", *options).text, "two\n")
        self.assertIsNone(worker.popen.poll())

    def write(self, text):
        path = self.dir / "written"
        path.write_text(text)
        return path

    def test_a_credential_helper_opens_the_door(self):
        helper = self.dir / "helper"
        helper.write_text("#!/bin/sh\ncat >&2\n"
                          "echo '{\"headers\":{\"Authorization\":[\"Bearer correct.horse\"]}}'\n")
        helper.chmod(0o700)
        one = self.open(*self.tls, "--grant", f"token:{self.token}=all",
                        listen="grpcs://0.0.0.0:0")
        options = ("--tls-ca", self.ours.ca, "--credential-helper", helper)
        one.start_worker(*options)
        self.assertEqual(one.sh("echo in", *options).text, "in\n")
        helper.write_text("#!/bin/sh\necho please log in >&2\nexit 1\n")
        run = one.sh("echo in", *options)
        self.assertNotEqual(run.code, 0)
        self.assertIn("please log in", run.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
