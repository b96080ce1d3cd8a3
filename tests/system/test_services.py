"""Execution, storage, action cache and artifact caches as services apart, and the whole of it played
through: proxies tell who was asked for what."""
import json
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "attack"))
import system  # noqa: E402
from attack import REAPI, Peer, data, digest, digest_of  # noqa: E402
from grpc_proxy import Proxy  # noqa: E402
from test_artifacts import ArtifactsCase  # noqa: E402


class ServicesTest(ArtifactsCase):
    def setUp(self):
        super().setUp()
        self.proxies = {}

    def tearDown(self):
        for proxy in self.proxies.values():
            proxy.close()
        super().tearDown()

    def proxy(self, name, target=None):
        self.proxies[name] = Proxy(target or self.system.address)
        return self.proxies[name].address

    def asked(self, name):
        return set(self.proxies[name].calls) - {"GetCapabilities"}

    def test_each_service_is_asked_for_its_own_and_no_more(self):
        args = [f"--{name}={self.proxy(name)}" for name in ("execution", "storage", "action-cache")]
        run = self.system.sh(f": {time.time()}; echo x > f; echo y", "-o", "f", "--download",
                             self.system.dir / "apart", *args, address="grpc://127.0.0.1:1")
        self.assertEqual((run.code, run.text), (0, "y\n"), run.err)
        self.assertEqual(self.asked("execution"), {"Execute"})
        self.assertEqual(self.asked("action-cache"), {"GetActionResult"})
        self.assertEqual(self.asked("storage"),
                         {"FindMissingBlobs", "BatchUpdateBlobs", "BatchReadBlobs"})

    def test_what_is_left_out_is_as_with_the_storage(self):
        storage = self.proxy("storage")
        config = self.system.dir / "services.yaml"
        config.write_text(f"storage: {{url: \"{storage}\", rpc-timeout: 30s}}\n"
                          f"execution: {{url: \"{self.proxy('execution')}\"}}\n")
        run = self.system.sh(f": {time.time()}", "--config", config,
                             env={"LAZYROOT_SERVER": ""}, address="")
        self.assertEqual(run.code, 0, run.err)
        self.assertEqual(self.asked("execution"), {"Execute"})
        self.assertIn("GetActionResult", self.asked("storage"))

    def test_an_instance_of_one_service_is_not_that_of_others(self):
        execution = self.proxy("execution")
        run = self.system.sh("true", f"--execution={execution},instance=elsewhere")
        self.assertEqual(run.code, 125)
        self.assertIn("elsewhere", run.err)

    def test_an_action_cache_with_push_is_given_results_and_saves_the_execution(self):
        cache = self.cache()
        command = f": {time.time()}"
        push = f"--action-cache={cache.url},push"
        run = self.system.sh(command, push)
        self.assertEqual((run.code, run.report["cached"]), (0, False), run.err)
        run = self.system.sh(command, push, "--execution=grpc://127.0.0.1:1")
        self.assertEqual((run.code, run.report["cached"]), (0, True), run.err)
        run = self.system.sh(command + "; true", f"--action-cache={cache.url}")
        self.assertEqual(run.code, 0, run.err)
        run = self.system.sh(command + "; true", "--execution=grpc://127.0.0.1:1",
                             f"--action-cache={cache.url}", "--give-up", "1s")
        self.assertEqual(run.code, 125, "without push it was given nothing")

    def cached_elsewhere(self, directory, *blobs):
        """An action whose result only another service's cache has, with an output directory; that
        service has the blobs. What runs the action, for the storage as it is then."""
        cache = self.cache()
        command = f"mkdir d; : {time.monotonic_ns()}"
        action = self.system.sh(command, "-o", "d", "--no-download").report["action"]
        peer = Peer(cache.url)
        self.addCleanup(peer.close)
        peer.put(*blobs)
        peer.call(REAPI + "ActionCache/UpdateActionResult", (
            data(2, digest(action)) + data(3, data(3, data(1, "d") + directory))))

        def run():
            new = self.system.dir / f"{time.monotonic_ns()}"
            return self.system.sh(command, "-o", "d", "--download", new / "out",
                                  f"--action-cache={cache.url}", "--execution=grpc://127.0.0.1:1",
                                  "--give-up", "1s", env={"XDG_CACHE_HOME": str(new / "home")})
        return run

    def assert_is_cached_once_all_is_there(self, run, *blobs):
        """Without any one of them it is executed, which nobody does here."""
        storage = Peer(self.system.address)
        self.addCleanup(storage.close)
        for blob in blobs:
            self.assertEqual(run().code, 125, blob)
            storage.put(blob)
        found = run()
        self.assertEqual((found.code, found.report["cached"]), (0, True), found.err)

    def test_a_hit_elsewhere_counts_once_all_below_its_directories_is_in_the_storage(self):
        words = f"{time.monotonic_ns()}".encode()
        below = data(1, data(1, "f") + data(2, digest_of(words)))
        root = data(2, data(1, "below") + data(2, digest_of(below)))
        run = self.cached_elsewhere(data(5, digest_of(root)), root, below, words)
        self.assert_is_cached_once_all_is_there(run, root, below, words)

    def test_a_hit_elsewhere_counts_once_all_below_its_trees_is_in_the_storage(self):
        """The Directories of a Tree need be nowhere but in it."""
        words = f"{time.monotonic_ns()}".encode()
        below = data(1, data(1, "f") + data(2, digest_of(words)))
        root = data(2, data(1, "below") + data(2, digest_of(below)))
        tree = data(1, root) + data(2, below)
        run = self.cached_elsewhere(data(3, digest_of(tree)), tree, words)
        self.assert_is_cached_once_all_is_there(run, tree, words)

    def test_outputs_of_a_run_are_inputs_again_without_being_here(self):
        storage = self.proxy("storage")
        first = self.system.sh(f"mkdir d; head -c 9000000 /dev/urandom > d/f; : {time.time()}",
                               "-o", "d", "--no-download", "--json", address=storage)
        shown = json.loads(self.lazyroot("action", first.report["action"], "--json").out)
        root = shown["result"]["directories"][0]["root"]
        self.proxies["storage"].calls.clear()
        run = self.system.sh("wc -c < f", "--input-digest", root, address=storage)
        self.assertEqual((run.code, run.text), (0, "9000000\n"), run.err)
        self.assertNotIn("Read", self.asked("storage"))

    def test_the_whole_architecture(self):
        """One execution service without assets, two artifact caches, a local store: built
        remotely and pushed, wiped, pulled from the second while the first is down."""
        one, two = self.cache(), self.cache()
        urls = {name: self.proxy(name, cache.url) for name, cache in
                (("one", one), ("two", two))}
        config = self.system.dir / "all.yaml"
        config.write_text(f"execution: {self.proxy('execution')}\n"
                          f"storage: {self.proxy('storage')}\n"
                          f"artifacts:\n  - {{url: \"{urls['one']}\", push: true}}\n"
                          f"  - {{url: \"{urls['two']}\", push: true}}\n")
        run = self.build("app", "mkdir d; seq 200 | split -a3 -dl1 - d/; echo built", "-o", "d",
                         "--download", self.system.dir / "built", "--config", config)
        self.assertEqual((run.code, run.text), (0, "built\n"), run.err)
        self.assertEqual(self.asked("execution"), {"Execute"})
        for name in ("one", "two"):
            self.assertEqual(self.asked(name),
                             {"FindMissingBlobs", "BatchUpdateBlobs", "PushDirectory"})
            self.proxies[name].calls.clear()
        root = self.listed()["app"]

        self.wipe()
        one.stop()
        self.proxies["storage"].calls.clear()
        run = self.lazyroot("pull", "app", "--config", config)
        self.assertEqual((run.code, run.text), (0, root + " app\n"), run.err)
        self.assertIn(urls["one"], run.err)
        calls = self.proxies["two"].calls
        self.assertEqual((calls["FetchDirectory"], calls["GetTree"]), (1, 1))
        self.assertEqual(self.asked("two"), {"FetchDirectory", "GetTree", "BatchReadBlobs"})
        self.assertEqual(self.asked("storage"), set())

        got = self.system.dir / "got"
        run = self.lazyroot("download", "app", got, "--config", config)
        self.assertEqual(run.code, 0, run.err)
        self.assertEqual(subprocess.run(
            ["diff", "-r", self.system.dir / "built", got], check=False).returncode, 0)
        self.assertEqual(self.asked("storage"), set(), "all was here")


if __name__ == "__main__":
    system.main()
