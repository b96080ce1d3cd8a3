"""A BuildStream project in the tree, its configuration, and what its artifacts say of themselves.
The server may be ours or another's: every step takes its address."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "attack"))
from attack import field  # noqa: E402

TOOLS = """sh ls cat cp mv mkdir rm echo touch ln id env sleep head tail grep sed find chmod sort wc
    true false test uname sha256sum tr stat od readlink""".split()
ARTIFACT_FILES = 8  # the field of buildstream.v2.Artifact


def remote(address, instance="dev"):
    """The service that a configuration names. A request that gets no answer fails in the end."""
    return {"url": address, "instance-name": instance, "connection-config": {"request-timeout": 60}}


class Project:
    def __init__(self, forky):
        self.forky = forky
        self.path = forky.project("buildstream")
        self.dir = forky.dir / "buildstream"
        forky.inside("""
            mkdir -p sysroot/bin sysroot/usr
            cp /usr/bin/busybox sysroot/bin/
            ln -sfn ../bin sysroot/usr/bin
            for tool in %s; do ln -sf busybox sysroot/bin/$tool; done
        """ % " ".join(TOOLS), cwd=self.path)

    def element(self, name, text):
        (self.dir / "elements" / name).write_text(text)

    def configure(self, name, builders=1, execution=None, instance="dev", **sections):
        """A configuration with a cache of its own; execution: the address that builds."""
        cache = f"{self.path}/{name}"
        conf = {"cachedir": cache, "logdir": f"{cache}/logs", "workspacedir": f"{cache}/ws",
                "scheduler": {"builders": builders, "fetchers": 1, "pushers": 2,
                              "network-retries": 0, "on-error": "quit"}, **sections}
        if execution:
            at = remote(execution, instance)
            conf["remote-execution"] = {"execution-service": at, "storage-service": at,
                                        "action-cache-service": {**at, "push": True}}
        (self.dir / f"{name}.conf").write_text(json.dumps(conf))  # which is YAML

    def words(self, name, *words):
        return ["bst", "--no-colors", "-c", f"{name}.conf", "--no-interactive", *words]

    def bst(self, name, *words, **kwargs):
        quoted = " ".join("'%s'" % w for w in self.words(name, *words))
        return self.forky.inside(quoted, cwd=self.path, **kwargs)

    def start(self, name, *words):
        return self.forky.start_inside(f"bst-{name}", self.words(name, *words), cwd=self.path)

    def files(self, name, element):
        """The digest of what an element's artifact holds, HASH/SIZE."""
        refs = self.dir / name / "artifacts/refs/demo" / element
        digests = set()
        for ref in refs.iterdir():
            digest = field(ref.read_bytes(), ARTIFACT_FILES)
            digests.add(f"{field(digest, 1).decode()}/{field(digest, 2)}")
        (digest,) = digests
        return digest

    def forget(self, name):
        """The cache of a configuration goes, and with it all that was built or pulled."""
        self.forky.inside(f"rm -rf {self.path}/{name}")
