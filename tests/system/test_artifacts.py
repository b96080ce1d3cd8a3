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
        shutil.rmtree(self.system.dir / "home")

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


    def test_outputs_of_every_kind_lie_where_download_puts_them(self):
        script = "mkdir -p w/d; echo x > w/d/f; echo y > w/y; chmod 755 w/y; ln -s y w/l"
        out = self.system.dir / "out"
        run = self.build("kinds", script, "-o", "w/d", "-o", "w/y", "-o", "w/l", "--download", out)
        self.assertEqual(run.code, 0, run.err)
        got = self.system.dir / "got"
        tree = next(line.split()[-2] for line in self.lazyroot(
            "ls", "-l", self.listed()["kinds"]).text.splitlines() if line.endswith("outputs/"))
        self.assertEqual(self.lazyroot("download", tree, got).code, 0)
        self.assertEqual(subprocess.run(["diff", "-r", out, got], check=False).returncode, 0)
        self.assertEqual((got / "w/l").readlink().name, "y")
        self.assertTrue((got / "w/y").stat().st_mode & 0o100)

    def test_the_whole_working_directory_is_an_output_too(self):
        run = self.build("dot", "echo x > f", "-o", ".", "--no-download")
        self.assertEqual(run.code, 0, run.err)
        self.assertEqual(self.lazyroot("cat", self.listed()["dot"], "outputs/f").text, "x\n")

    def test_what_failed_has_no_name(self):
        self.assertEqual(self.build("bad", "exit 3").code, 3)
        self.assertEqual(self.listed(), {})

    def test_names_end_when_they_expire_or_are_forgotten(self):
        self.assertEqual(self.build("soon", "true", "--expire", "1s").code, 0)
        self.assertEqual(self.build("late", "true", "--expire", "1h").code, 0)
        system.wait_until(lambda: set(self.listed()) == {"late"}, "the end of a name")
        self.assertEqual(self.lazyroot("forget", "late").code, 0)
        self.assertEqual(self.listed(), {})
        run = self.lazyroot("forget", "late")
        self.assertEqual(run.code, 1)
        self.assertIn("there is no artifact \"late\" here", run.err)

    def test_a_name_that_is_not_here_is_said_and_keeps_no_other(self):
        self.assertEqual(self.build("here", "true").code, 0)
        for names, listed in ((("gone",), []), (("gone", "here", "gone2"), ["here"])):
            run = self.lazyroot("artifacts", *names)
            self.assertEqual(run.code, 1)
            self.assertEqual([l.split()[-1] for l in run.text.splitlines()], listed)
            for name in names:
                self.assertEqual(f'there is no artifact "{name}" here' in run.err,
                                 name != "here", run.err)
        run = self.lazyroot("forget", "gone", "here")
        self.assertEqual((run.code, self.listed()), (1, {}), run.err)

    def test_caches_are_asked_only_where_there_are_some(self):
        for args in (("artifacts", "--remote"), ("forget", "--remote", "x"), ("push", "x"),
                     ("pull", "x"),
                     ("forget", "--remote", "x", "--artifacts", "grpc://127.0.0.1:1")):
            run = self.lazyroot(*args)
            self.assertEqual(run.code, 2, args)
            self.assertIn("--artifacts", run.err)

    def test_what_is_no_name_is_wrong_usage(self):
        for name in ("", "-x", "a\nb", "x" * 513, "0" * 64 + "/3", "/x", "./x", "../x", "."):
            run = self.lazyroot("artifacts", "--", name)
            self.assertEqual(run.code, 2, name)
        run = self.lazyroot("run", "--artifact", "0" * 64 + "/3", "--", "true")
        self.assertEqual(run.code, 2)
        self.assertIn("is a digest, and no name", run.err)


class CachesTest(ArtifactsCase):
    def args(self, *words):
        return [a for w in words for a in ("--artifacts", w)]

    def artifact(self, name="app", size=4):
        script = f"mkdir d; seq -f '{name} %g' {size} | split -a4 -dl1 - d/; echo made"
        run = self.build(name, script, "-o", "d", "--no-download")
        self.assertEqual(run.code, 0, run.err)
        return self.listed()[name]

    def test_a_pushed_artifact_is_pulled_elsewhere(self):
        one, root = self.cache(), self.artifact()
        run = self.lazyroot("push", "app", *self.args(one.url + ",push"))
        self.assertEqual((run.code, run.err), (0, ""))
        self.wipe()
        run = self.lazyroot("pull", "app", *self.args(one.url), env={"LAZYROOT_SERVER": ""})
        self.assertEqual((run.code, run.text), (0, root + " app\n"), run.err)
        self.assertEqual(self.listed(), {"app": root})
        # all of it is here: the service that it was made with need not be asked
        run = self.lazyroot("cat", root, "outputs/d/0002", "--log", "debug")
        self.assertEqual(run.text, "app 3\n")
        self.assertEqual({k for k in rpcs(run) if k.startswith(("BatchRead", "Read", "GetTree"))},
                         set())

    def test_names_of_all_bytes_stay_apart(self):
        one = self.cache()
        roots = {name: self.artifact(name, 1) for name in ("a b", "a%20b", "a/b", "\u00fc")}
        run = self.lazyroot("push", *roots, *self.args(one.url + ",push"))
        self.assertEqual(run.code, 0, run.err)
        self.wipe()
        self.assertEqual(self.lazyroot("pull", *roots, *self.args(one.url)).code, 0)
        self.assertEqual(self.listed(), roots)

    def test_pull_passes_over_a_cache_that_is_down(self):
        one, two = self.cache(), self.cache()
        root = self.artifact()
        both = self.args(one.url + ",push", two.url + ",push")
        self.assertEqual(self.lazyroot("push", "app", *both).code, 0)
        one.stop()
        self.wipe()
        run = self.lazyroot("pull", "app", *both)
        self.assertEqual(run.code, 0, run.err)
        self.assertEqual(run.err.count(one.url + ": passed over"), 1, run.err)
        self.assertEqual(run.err.count("artifact cache"), 1, run.err)
        self.assertEqual(self.listed(), {"app": root})

    def test_pull_goes_on_where_a_cache_lacks_blobs(self):
        """The first has the name only, as an index has it; of the storages the first lost some."""
        index, half, whole = self.cache(), self.cache(), self.cache()
        root = self.artifact()
        self.assertEqual(self.lazyroot("push", "app", *self.args(
            index.url + ",push,type=index", half.url + ",push", whole.url + ",push")).code, 0)
        half.stop()
        lost = sorted((self.system.dir / half.name / "blobs").glob("??/*"))[0]
        lost.unlink()
        half.start()
        self.wipe()
        run = self.lazyroot("pull", "app", *self.args(
            index.url + ",type=index", half.url + ",type=storage", whole.url + ",type=storage"))
        self.assertEqual(run.code, 0, run.err)
        self.assertIn(half.url + ": not all blobs came from it", run.err)
        self.assertEqual(self.listed(), {"app": root})

    def test_a_name_that_nobody_has_is_one_error(self):
        one = self.cache()
        self.artifact()
        run = self.lazyroot("pull", "nothing", *self.args(one.url))
        self.assertEqual(run.code, 1)
        self.assertEqual(len(run.err.splitlines()), 1, run.err)
        self.assertIn("no artifact cache that answers knows \"nothing\"", run.err)
        for verb in (("artifacts", "--remote"), ("push",)):
            run = self.lazyroot(*verb, "nothing", "app", *self.args(one.url + ",push"))
            self.assertEqual(run.code, 1)
            self.assertIn('"nothing"', run.err)
        self.assertEqual(self.lazyroot("artifacts", "--remote", "app", *self.args(one.url)).code, 0)

    def test_push_reaches_all_and_a_failing_one_sets_the_exit_code(self):
        """Statement 91."""
        one, down, reader, two = self.cache(), self.cache(), self.cache(), self.cache()
        down.stop()
        root = self.artifact()
        run = self.lazyroot("push", "app", *self.args(
            down.url + ",push", one.url + ",push", reader.url, two.url + ",push"))
        self.assertEqual(run.code, 1)
        self.assertIn(down.url + ": the blobs were not pushed", run.err)
        self.assertEqual(run.err.count("artifact cache"), 1, run.err)
        run = self.lazyroot("artifacts", "--remote", "--json", "app", *self.args(
            one.url, reader.url, two.url))
        self.assertEqual([(a["cache"], a["root"]) for a in json.loads(run.out)],
                         [(one.url, root), (two.url, root)])
        for cache in (one, two):
            self.wipe()
            self.assertEqual(self.lazyroot("pull", "app", *self.args(cache.url)).code, 0)

    def test_no_name_goes_where_no_blobs_went(self):
        index, storage = self.cache(), self.cache()
        self.artifact()
        storage.stop()
        run = self.lazyroot("push", "app", *self.args(
            index.url + ",push,type=index", storage.url + ",push,type=storage"))
        self.assertEqual(run.code, 1)
        self.assertIn(index.url + ": the name was not pushed", run.err)
        run = self.lazyroot("artifacts", "--remote", "app", *self.args(index.url))
        self.assertEqual(run.text, "")

    def test_a_cache_without_assets_is_named_and_the_rest_goes_on(self):
        plain, one = self.cache("--no-assets"), self.cache()
        root = self.artifact()
        both = self.args(plain.url + ",push", one.url + ",push")
        run = self.lazyroot("push", "app", *both)
        self.assertEqual(run.code, 1)
        self.assertIn(f"artifact cache {plain.url} has no Remote Asset API", run.err)
        self.wipe()
        run = self.lazyroot("pull", "app", *both)
        self.assertEqual(run.code, 0, run.err)
        self.assertIn(f"artifact cache {plain.url} has no Remote Asset API", run.err)
        self.assertEqual(self.listed(), {"app": root})

    def test_a_run_pushes_what_it_made(self):
        one, two = self.cache(), self.cache()
        config = self.system.dir / "lazyroot.yaml"
        config.write_text(f"artifacts:\n  - {{url: \"{one.url}\", push: true}}\n"
                          f"  - {{url: \"{two.url}\", instance: \"\", push: yes, type: all}}\n")
        run = self.build("app", "mkdir d; echo x > d/f", "-o", "d", "--config", config)
        self.assertEqual(run.code, 0, run.err)
        root = self.listed()["app"]
        two.stop()
        run = self.build("app", "mkdir d; echo y > d/f", "-o", "d", "--config", config)
        self.assertEqual(run.code, 125)
        self.assertEqual((self.system.dir / "d/f").read_text(), "y\n")
        self.assertIn("1 of its caches did not take it", run.err)
        self.wipe()
        self.assertEqual(self.lazyroot("pull", "app", *self.args(one.url)).code, 0)
        self.assertNotEqual(self.listed()["app"], root)

    def test_only_what_a_cache_lacks_is_pushed(self):
        one = self.cache()
        self.artifact(size=50)
        push = ("push", "app", *self.args(one.url + ",push"), "--log", "debug")
        self.assertGreater(rpcs(self.lazyroot(*push)).get("BatchUpdateBlobs", 0), 0)
        counts = rpcs(self.lazyroot(*push))
        self.assertEqual({k: v for k, v in counts.items() if k != "GetCapabilities"},
                         {"FindMissingBlobs": 1, "PushDirectory": 1})

    def test_forget_reaches_caches_and_expiry_goes_with_a_name(self):
        one = self.cache()
        self.artifact()
        arg = self.args(one.url + ",push")
        self.assertEqual(self.lazyroot("push", "app", "--expire", "1h", *arg).code, 0)
        self.wipe()
        run = self.lazyroot("pull", "app", "--json", *arg)
        self.assertAlmostEqual(json.loads(run.out)[0]["expires"], time.time() + 3600, delta=300)
        self.assertEqual(self.lazyroot("forget", "--remote", "app", *arg).code, 0)
        self.assertEqual(self.lazyroot("pull", "app", *arg).code, 1)

    def test_a_pull_of_a_tree_from_afar_needs_few_calls(self):
        one = self.cache()
        self.artifact(size=3000)
        self.assertEqual(self.lazyroot("push", "app", *self.args(one.url + ",push")).code, 0)
        self.wipe()
        run = self.lazyroot("pull", "app", *self.args(one.url), "--log", "debug")
        self.assertEqual(run.code, 0, run.err)
        counts = rpcs(run)
        self.assertEqual((counts["FetchDirectory"], counts["GetTree"]), (1, 1), counts)
        self.assertLessEqual(counts["BatchReadBlobs"], 300, counts)

    def test_what_is_wrong_in_a_cache_is_said_with_its_place(self):
        config = self.system.dir / "bad.yaml"
        for text, words in (
                ("artifacts:\n  - {uri: x}\n", "line 2: artifacts: \"uri\" is none of its keys; "
                 "did you mean url?"),
                ("artifacts:\n  - {url: x, url: y}\n", "\"url\" stands there twice"),
                ("artifacts:\n  - {url: [x]}\n", "line 2: url wants one value"),
                ("artifacts:\n  - [x]\n", "line 2: artifacts wants KEY: VALUE pairs"),
                ("artifacts: {push: true}\n", "--artifacts: it has no url"),
                ("artifacts: {url: \"grpc://h:1\", type: some}\n",
                 "--artifacts: type: \"some\" is none of all, index, storage"),
                ("artifacts: {url: \"grpc://h:1\", push: perhaps}\n",
                 "push: \"perhaps\" is neither true nor false")):
            config.write_text(text)
            run = self.lazyroot("pull", "app", "--config", config)
            self.assertEqual(run.code, 2, text)
            self.assertIn(words, run.err)


if __name__ == "__main__":
    system.main()
