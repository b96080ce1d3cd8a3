"""BuildStream's artifact and source caches: our server, twice, beside BuildStream's own."""
import shutil

import forky
from buildstream import Project

ELEMENTS = ("report", "hello", "base")
# what bst-artifact-server is made of; Debian does not package the program
ARTIFACT_SERVER = """
import signal, sys
from buildstream._cas.casserver import create_server
with create_server(sys.argv[1], enable_push=True, quota=None, index_only=False) as server:
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print("listening on", port, flush=True)
    signal.sigwait([signal.SIGTERM])
    server.stop(0)
"""


class CachesTest(forky.InteropTest):
    wants_worker = False
    server_args = [word for name in ("empty", "names", "contents", "beside")
                   for word in ("--instance", name)]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.project = Project(cls.forky)

    def at(self, instance, push=True, **more):
        return {"url": self.forky.http, "instance-name": instance, "push": push, **more}

    def configure(self, name, artifacts, sources=()):
        self.project.configure(name, artifacts={"servers": artifacts},
                               **{"source-caches": {"servers": list(sources)}})

    def bst(self, name, *words):
        """The calls that it took."""
        with self.forky.counted() as calls:
            run = self.project.bst(name, *words)
            self.assertEqual(run.code, 0, run.err[-4000:])
        return calls

    def check_report(self, name, built):
        """All of it is here, and what `built` has."""
        for element in ELEMENTS:
            self.assertEqual(self.project.files(name, element), self.project.files(built, element))
        run = self.project.bst(name, "artifact", "checkout", "--tar", "-", "report.bst")
        self.assertIn(b"HELLO FROM SOURCE\n", run.out)

    def test_two_caches_and_sources_pushed_wiped_pulled(self):
        self.configure("two", [self.at("dev"), self.at("other")], [self.at("dev")])
        calls = self.bst("two", "build", "report.bst")
        self.assertEqual(calls["Push/PushBlob"], 3 * 2 + 3)  # artifacts to both, sources to one
        self.assertEqual(calls["Push/PushDirectory"], 2)  # sources of base and hello
        shutil.copytree(self.project.dir / "two", self.project.dir / "built", symlinks=True)
        self.project.forget("two")
        calls = self.bst("two", "artifact", "pull", "--deps", "all", "report.bst")
        self.assertEqual((calls["Fetch/FetchBlob"], calls["Push/PushBlob"]), (3, 0))
        self.check_report("two", "built")
        self.project.forget("two")
        calls = self.bst("two", "source", "fetch", "--deps", "all", "report.bst")
        self.assertEqual(calls["Fetch/FetchBlob"], 3)
        # the first has nothing, the second has all
        self.configure("second", [self.at("empty", push=False), self.at("other", push=False)])
        calls = self.bst("second", "artifact", "pull", "--deps", "all", "report.bst")
        self.assertEqual((calls["Fetch/FetchBlob NOT_FOUND"], calls["Fetch/FetchBlob"]), (3, 3))
        self.check_report("second", "built")
        # a build takes what is there, and what that was made of is not wanted
        self.project.forget("second")
        calls = self.bst("second", "build", "report.bst")
        self.assertEqual((calls["Fetch/FetchBlob NOT_FOUND"], calls["Fetch/FetchBlob"]), (1, 1))

    def test_names_here_and_blobs_there(self):
        """One server keeps names only, the other blobs only."""
        both = [self.at("names", type="index"), self.at("contents", type="storage")]
        self.configure("split", both)
        self.bst("split", "build", "report.bst")
        shutil.copytree(self.project.dir / "split", self.project.dir / "whole", symlinks=True)
        self.project.forget("split")
        self.bst("split", "artifact", "pull", "--deps", "all", "report.bst")
        self.check_report("split", "whole")

    def test_artifact_server_of_buildstream(self):
        """Ours and theirs hold the same; and theirs is storage for our client."""
        theirs = self.forky.start_inside("artifacts", [
            "python3", "-c", ARTIFACT_SERVER, self.forky.inner() + "/artifacts-repo"])
        port = theirs.wait_line("listening on ").split()[-1]
        other = {"url": f"http://127.0.0.1:{port}", "push": True}
        self.configure("beside", [other, self.at("beside")])
        self.bst("beside", "build", "report.bst")
        shutil.copytree(self.project.dir / "beside", self.project.dir / "filled", symlinks=True)
        for name, server in (("theirs", other), ("ours", self.at("beside"))):
            self.configure(name, [server])
            self.bst(name, "artifact", "pull", "--deps", "all", "report.bst")
            self.check_report(name, "filled")
        digest = self.project.files("ours", "hello")
        for name, address, instance in (("by-theirs", f"grpc://127.0.0.1:{port}", ""),
                                        ("by-ours", self.forky.address, "beside")):
            self.ok(self.forky.lazyroot("download", digest, self.forky.dir / name, address=address,
                                        env={"LAZYROOT_INSTANCE": instance}))
        self.inside("diff -r --no-dereference by-theirs by-ours")
        self.ok(self.forky.lazyroot("upload", self.forky.dir / "by-ours",
                                    address=f"grpc://127.0.0.1:{port}",
                                    env={"LAZYROOT_INSTANCE": ""}))
