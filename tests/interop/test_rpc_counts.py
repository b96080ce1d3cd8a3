"""What one action costs in calls at our server: by BuildStream, by Bazel, by lazyroot run, and what
its worker adds. The table stands in docs/protocol.md."""
import forky
from bazel import Workspace
from buildstream import Project

CAPABILITIES = "Capabilities/GetCapabilities"
FIND = "ContentAddressableStorage/FindMissingBlobs"
UPDATE = "ContentAddressableStorage/BatchUpdateBlobs"
READ = "ContentAddressableStorage/BatchReadBlobs"
TREE = "ContentAddressableStorage/GetTree"
STREAM_READ, STREAM_WRITE = "ByteStream/Read", "ByteStream/Write"
EXECUTE = "Execution/Execute"
CACHED, LOOKED_UP = "ActionCache/GetActionResult", "ActionCache/GetActionResult NOT_FOUND"


class CountsTest(forky.InteropTest):
    wants_worker = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for pool, root in (("files", "/build"), ("whole", "/")):
            # what it learns is not shared: those calls come later, and not always
            cls.forky.start_worker("--platform", f"pool={pool}", "--foresight", "local", "--allow",
                                   "uid", "--allow", "gid", root=root, name=pool)

    def cost(self, client, worker, step):
        """The calls of a step are exactly these; and two more of the worker where the command took
        long enough to be read along."""
        with self.forky.counted() as clients, self.forky.counted("unix") as workers:
            run = step()
            self.assertEqual(run.code, 0, run.err[-3000:])
        self.assertEqual(dict(clients), client)
        self.assertIn(workers.pop(STREAM_WRITE, 0), (0, 2))
        self.assertEqual(dict(workers), worker)

    def test_lazyroot_run(self):
        tree = self.forky.tree("in", {"f": "x\n"})

        def run(n):
            return self.forky.lazyroot(
                "run", "--platform", "pool=files", "--input", tree, "--output", "o", "--download",
                self.forky.dir / "o", "--env", "PATH=/usr/bin:/bin", "--env", f"N={n}", "--",
                "/bin/sh", "-c", "cat f > o; echo $N >> o")
        self.assertEqual(run(1).code, 0)  # the worker knows the tree, the client its digests
        self.cost({CAPABILITIES: 1, LOOKED_UP: 1, FIND: 1, UPDATE: 1, EXECUTE: 1, READ: 1},
                  {READ: 1, FIND: 1, UPDATE: 1}, lambda: run(2))
        self.cost({CAPABILITIES: 1, CACHED: 1}, {}, lambda: run(2))

    def test_bazel_action(self):
        space = Workspace(self.forky)
        self.addCleanup(space.close)

        def build(text=None):
            if text:
                (space.dir / "pkg/in.txt").write_text(text)
            return space.bazel(f"build {space.remote()} "
                               "--remote_default_exec_properties=pool=files //pkg:upper")
        self.assertEqual(build("first\n").code, 0)
        # one Write a blob: Action, input, and the two directories above it
        self.cost({CAPABILITIES: 1, LOOKED_UP: 1, FIND: 1, STREAM_WRITE: 4, EXECUTE: 1,
                   STREAM_READ: 1}, {READ: 1, TREE: 1, FIND: 1, UPDATE: 1},
                  lambda: build("second\n"))
        space.bazel("clean")
        self.cost({CAPABILITIES: 1, CACHED: 1, STREAM_READ: 1}, {}, build)

    def test_buildstream_element(self):
        project = Project(self.forky)
        project.configure("one", execution=self.forky.http)
        self.assertEqual(project.bst("one", "build", "base.bst").code, 0)
        self.cost({CAPABILITIES: 1, LOOKED_UP: 1, FIND: 2, UPDATE: 2, EXECUTE: 1, READ: 5,
                   STREAM_READ: 1},
                  {READ: 4, TREE: 1, FIND: 1, UPDATE: 1},
                  lambda: project.bst("one", "build", "hello.bst"))
        project.forget("one")
        self.assertEqual(project.bst("one", "build", "base.bst").code, 0)
        self.cost({CAPABILITIES: 1, CACHED: 1, FIND: 1, READ: 5, STREAM_READ: 1}, {},
                  lambda: project.bst("one", "build", "hello.bst"))
