"""A worker whose instance has a name, under a server that has no other."""
from system import SystemTest


class InstanceTest(SystemTest):
    server_args = ("--instance", "team/a")
    worker_args = ("--instance", "team/a")

    def test_all_of_an_action_goes_by_the_workers_instance(self):
        env = {"LAZYROOT_INSTANCE": "team/a"}
        (self.system.dir / "tree").mkdir()
        (self.system.dir / "tree/in").write_text("all of it\n")
        run = self.assert_ok(self.system.sh("cat in; cp in out", "--input", "tree", "--output", "out",
                                            env=env))
        self.assertEqual(run.text, "all of it\n")
        self.assertEqual((self.system.dir / "out").read_text(), "all of it\n")
