"""The whole of it, played once: an execution service without assets, two artifact caches, and the
stores of three machines. One builds here and pushes, one builds remotely and pushes; the third has
nothing, pulls from the second cache when the first is down, checks out with integration, and opens a
shell: by the calls that each step makes."""
import json
import shutil

import system
from test_artifacts import ArtifactsCase, rpcs


IMAGE = ("mkdir -p usr/share bin; cat app.txt dep/outputs/lib/text > usr/share/app; "
         "cp $(command -v busybox) bin/busybox; ln -s busybox bin/sh")


class ArchitectureTest(ArtifactsCase):
    def config(self, *lines):
        path = self.system.dir / f"lazyroot-{len(list(self.system.dir.glob('*.yaml')))}.yaml"
        path.write_text("".join(line + "\n" for line in lines))
        return path

    def at(self, machine, verb, *args, server="", **kwargs):
        """On a machine of its own: a store of its own."""
        return self.system.lazyroot(verb, *args, env={
            "XDG_CACHE_HOME": str(self.system.dir / machine), "LAZYROOT_SERVER": server}, **kwargs)

    def ok(self, run):
        self.assertEqual(run.code, 0, run.err)
        return run

    def test_build_push_wipe_pull_check_out(self):
        one, two = self.cache(), self.cache()
        caches = (f'  - {{url: "{one.url}", push: true}}', f'  - {{url: "{two.url}", push: true}}')
        local = self.config("artifacts:", *caches)
        farm = self.config("artifacts:", *caches, f'execution: {{url: "{self.system.address}"}}',
                           f'storage: {{url: "{self.system.address}"}}')
        source = self.system.tree("source", {"lib.txt": "library\n", "app.txt": "uses "})
        path = ("--env", "PATH=/usr/bin:/bin")

        # one person, one machine: no service but the caches
        built = self.ok(self.at(
            "laptop", "run", "--config", local, "--sandbox", "namespaces", "--input", source,
            *path, "-o", "lib", "--no-download", "--artifact", "lib", "--log", "debug", "--",
            "/bin/sh", "-c", "mkdir lib; cp lib.txt lib/text"))
        calls = rpcs(built)
        self.assertEqual(calls.get("Execute", 0), 0, calls)
        self.assertEqual(calls["PushDirectory"], 2, calls)
        lib = json.loads(self.ok(self.at("laptop", "artifacts", "--json")).out)[0]["root"]

        # another has a farm, and the library as an input, which goes there from the cache
        self.ok(self.at("desk", "pull", "lib", "--config", farm))
        built = self.ok(self.at(
            "desk", "run", "--config", farm, "--input", source, "--input-digest", f"{lib}=dep",
            *path, "-o", "usr", "-o", "bin", "--no-download", "--artifact", "app", "--log", "debug",
            "--", "/bin/sh", "-c", IMAGE))
        calls = rpcs(built)
        # what was pulled is not there: the first Execute tells, and it is sent
        self.assertEqual((calls["Execute"], calls["PushDirectory"]), (2, 2), calls)
        again = self.ok(self.at(
            "desk", "run", "--config", farm, "--input", source, "--input-digest", f"{lib}=dep",
            *path, "-o", "usr", "-o", "bin", "--no-download", "--log", "debug", "--json", "--",
            "/bin/sh", "-c", IMAGE))
        self.assertTrue(json.loads(again.out)["cached"])

        # the third knows nobody but the caches, the first of which is down
        one.stop()
        shutil.rmtree(self.system.dir / "desk")
        pulled = self.ok(self.at("train", "pull", "lib", "app", "--config", local, "--log", "debug"))
        self.assertEqual(pulled.err.count(one.url + ": passed over"), 1, pulled.err)
        self.assertEqual(rpcs(pulled)["FetchDirectory"], 5 + 2, "tries at the first, and two names")
        self.assertEqual(rpcs(pulled)["GetTree"], 2, pulled.err)
        two.stop()
        dest = self.system.dir / "image"
        checked = self.ok(self.at("train", "checkout", "app", dest, "--integrate",
                                  "echo integrated > /usr/share/done"))
        self.assertEqual(rpcs(checked), {})
        self.assertEqual((dest / "usr/share/app").read_text(), "uses library\n")
        self.assertEqual((dest / "usr/share/done").read_text(), "integrated\n")
        shell = self.ok(self.at("train", "shell", "--root", "/", "app", "--", "/bin/busybox", "cat",
                                "/usr/share/app"))
        self.assertEqual(shell.text, "uses library\n")


if __name__ == "__main__":
    system.main()
