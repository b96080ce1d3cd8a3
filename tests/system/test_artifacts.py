"""Artifacts: results under names, in several caches, on this machine; three endpoints."""
import json
import re
import shutil
import subprocess
import time
import unittest

import system
from system import BIN, Process, System, need_root

CALLS = re.compile(r"calls (\S+)=(\d+)")


class Cache:
    """A further lazyroot-server, as an artifact cache."""
    number = 0

    def __init__(self, system_, *args, name=None):
        Cache.number += 1
        self.system = system_
        self.name = name or f"cache-{Cache.number}"
        self.port = system.Port()
        self.url = self.port.address
        self.args = args
        self.start()

    def start(self):
        self.server = Process(
            self.name, [BIN / "lazyroot-server", "--listen", self.url, "--data",
                        self.system.dir / self.name, "--grant", "local=all", *self.args],
            self.system.dir)
        self.system.processes.append(self.server)
        self.server.wait_line("listening")

    def stop(self):
        self.server.stop()
        self.system.processes.remove(self.server)

    def close(self):
        if self.server in self.system.processes:
            self.stop()
        self.port.close()


def rpcs(run):
    """Method -> calls, of a lazyroot that ran with --log debug."""
    found = {}
    for path, n in CALLS.findall(run.err):
        name = path.rsplit("/", 1)[1]
        found[name] = found.get(name, 0) + int(n)
    return found


class ArtifactsCase(unittest.TestCase):
    def setUp(self):
        need_root()
        self.system = System(("--no-assets",))
        self.worker = self.system.start_worker()
        self.caches = []

    def tearDown(self):
        for cache in self.caches:
            cache.close()
        self.system.close()

    def cache(self, *args):
        self.caches.append(Cache(self.system, *args))
        return self.caches[-1]

    def build(self, name, script, *args, **kwargs):
        return self.system.sh(script, "--artifact", name, *args, report=False, **kwargs)

    def lazyroot(self, *args, **kwargs):
        return self.system.lazyroot(*args, **kwargs)

    def wipe(self):
        """As on another machine: nothing of the user's is here."""
        shutil.rmtree(self.system.dir / "home" / ".cache", ignore_errors=True)
        shutil.rmtree(self.system.cache, ignore_errors=True)

    def listed(self):
        return {a["name"]: a["root"] for a in json.loads(
            self.lazyroot("artifacts", "--json").out)}


class NamesTest(ArtifactsCase):
    def test_a_run_gets_a_name_and_what_it_stands_for_is_one_tree(self):
        run = self.build("app/1.0", "echo said; echo wrong >&2; mkdir -p d; echo x > d/f; ln -s f d/l",
                         "-o", "d", "--download", self.system.dir / "out")
        self.assertEqual(run.code, 0, run.err)
        root = self.listed()["app/1.0"]
        self.assertEqual(self.lazyroot("cat", root, "stdout").text, "said\n")
        self.assertEqual(self.lazyroot("cat", root, "stderr").text, "wrong\n")
        self.assertEqual(self.lazyroot("cat", root, "outputs/d/f").text, "x\n")
        names = self.lazyroot("ls", root).text.split()
        self.assertEqual(names, ["action", "command", "outputs/", "result", "stderr", "stdout"])


if __name__ == "__main__":
    system.main()
