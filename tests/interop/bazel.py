"""A Bazel workspace in the tree, and its server's life."""


class Workspace:
    def __init__(self, forky):
        self.forky = forky
        self.path = forky.project("bazel")
        self.dir = forky.dir / "bazel"
        # An idle server ends by itself where a test is killed. Debian's does not find its zstd.
        zstd = "/usr/lib/x86_64-linux-gnu/libzstd-jni.so"
        self.program = (f"bazel --output_user_root={forky.inner()}/bazel-out "
                        f"--host_jvm_args=-Xmx600m --host_jvm_args=-DZstdNativePath={zstd} "
                        "--max_idle_secs=120")

    def remote(self, host_port=None, instance="dev"):
        return (f"--spawn_strategy=remote --remote_executor=grpc://{host_port or self.host_port} "
                f"--remote_instance_name={instance} "
                "--remote_default_exec_properties=OSFamily=linux "
                "--color=no --curses=no --show_progress_rate_limit=60")

    @property
    def host_port(self):
        return self.forky.host_port

    def words(self, line):
        return ["bash", "-euc", f"exec {self.program} {line}"]

    def bazel(self, line, **kwargs):
        return self.forky.inside(f"exec {self.program} {line}", cwd=self.path, **kwargs)

    def out(self, path):
        """A file that Bazel made, through its links, or None. They are the tree's own paths."""
        run = self.forky.inside(f"cat bazel-bin/{path}", cwd=self.path)
        return run.text if run.code == 0 else None

    def close(self):
        self.bazel("shutdown")
