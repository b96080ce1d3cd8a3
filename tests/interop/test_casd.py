"""buildbox-casd between us and a server: as the storage of our worker and client, and as a local
proxy before our server."""
import forky
from system import wait_until


class CasdTest(forky.InteropTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.alone = cls.start_casd("alone")  # a storage of its own, which no server stands behind
        at = cls.forky.http
        services = [f"--{service}-remote={at}" for service in ("cas", "ac", "exec", "ra")]
        cls.proxy = cls.start_casd("proxy", *services, "--proxy-instance=dev:dev")

    @classmethod
    def start_casd(cls, name, *args):
        port = forky.free_port()
        cls.forky.start_inside(name, ["buildbox-casd", f"--bind=127.0.0.1:{port}", *args,
                                      f"{cls.forky.inner()}/{name}-casd"])
        address = f"grpc://127.0.0.1:{port}"
        env = {"LAZYROOT_INSTANCE": "dev" if args else ""}
        wait_until(lambda: cls.forky.lazyroot("capabilities", "--rpc-timeout", "1s", env=env,
                                              address=address).code == 0, name)
        return address

    def at(self, address, verb, *args):
        env = {"LAZYROOT_INSTANCE": "dev" if address == self.proxy else ""}
        return self.ok(self.forky.lazyroot(verb, *args, env=env, address=address))

    def a_tree(self, name):
        return self.forky.tree(name, {
            "a": f"{name}\n", "sub/run": ("exec", "#!/bin/sh\n"), "link": ("link", "sub"),
            "empty": None, "big": b"".join(b"%d\n" % i for i in range(900_000))})

    def test_storage_of_our_client(self):
        """What we upload is there for their tools; what they upload, for ours."""
        tree = self.a_tree("ours")
        with self.forky.counted() as calls:
            digest = self.at(self.alone, "upload", tree).text.strip()
            self.at(self.alone, "download", digest, self.forky.dir / "ours-back")
        self.assertEqual(calls, {})
        theirs = self.alone.replace("grpc", "http")
        self.inside(f"""
            diff -r --no-dereference ours ours-back
            casdownload --remote={theirs} --root-digest={digest} --destination-dir=ours-theirs
            diff -r --no-dereference ours ours-theirs
            casupload --remote={theirs} --output-digest-file=digest ours
        """)
        self.assertEqual((self.forky.dir / "digest").read_text(), digest)
        self.assertIn("big", self.at(self.alone, "ls", "-R", digest).text)

    def test_storage_of_our_worker(self):
        """A worker of ours has its jobs from our server and its blobs by casd, where what it left
        is, too."""
        self.forky.start_worker("--cas", self.proxy, "--platform", "pool=casd", name="by-casd")
        tree = self.a_tree("by-casd")
        with self.forky.counted("unix") as calls:
            run = self.ok(self.forky.sh("cat a; wc -l < big; cp -r sub out; cp big out",
                                        "--input", tree, "--output", "out", "--platform",
                                        "pool=casd", "--download", self.forky.dir / "left"))
        self.assertEqual(run.text.split(), ["by-casd", "900000"])
        self.assertEqual((self.forky.dir / "left/out/big").read_bytes(),
                         (tree / "big").read_bytes())
        # the worker's storage is casd alone; what the command says is the server's to know
        self.assertLessEqual(set(calls), {"ByteStream/Write"})
        self.assertTrue(list((self.forky.dir / "proxy-casd").rglob("objects")))

    def test_proxy_before_our_server(self):
        """All of a run goes through it: what it takes, what runs, what comes back; the second time
        from the cache."""
        tree = self.a_tree("proxied")
        args = ("--input", tree, "--output", "o", "--env", "PATH=/usr/bin:/bin", "--json")
        script = ("--", "/bin/sh", "-c", "wc -l < big > o; cat o")
        with self.forky.counted() as calls:
            self.at(self.proxy, "run", *args, "--download", self.forky.dir / "p1", *script)
            again = self.at(self.proxy, "run", *args, "--download", self.forky.dir / "p2", *script)
        self.assertEqual((self.forky.dir / "p1/o").read_text(), "900000\n")
        self.assertEqual((self.forky.dir / "p2/o").read_text(), "900000\n")
        self.assertIn('"cached": true', again.text)
        self.assertGreaterEqual(calls["Execution/Execute"], 1)
        self.assertGreaterEqual(calls["ContentAddressableStorage/BatchUpdateBlobs"], 1)

    def test_their_tools_by_the_proxy(self):
        """trexe by way of LocalCAS, which wants absolute paths; its own runner, which has to see
        what casd mounts, and then the result of that from us."""
        run = ("--platform-properties=OSFamily=linux --output-path=o --use-localcas --instance=dev "
               f"--input-path={self.forky.inner()}/in/f:f")
        local = "--cache-only --buildbox-run=/usr/bin/buildbox-run-hosttools"
        self.forky.tree("in", {"f": "by casd\n"})
        with self.forky.counted() as calls:
            self.inside(f"""
                buildbox-casd --cas-remote=$ADDRESS --ac-remote=$ADDRESS --exec-remote=$ADDRESS \
                    --proxy-instance=dev:dev --bind=unix:$HOME/tools.casd $HOME/tools-casd &
                casd=$!
                trap 'kill $casd; wait $casd' EXIT
                until [ -e tools.casd ]; do sleep 0.05; done
                by="--remote=unix:$HOME/tools.casd {run}"
                trexe $by --d=$HOME/t1 /bin/sh -c 'cat f > o'
                grep -qx 'by casd' t1/o
                for i in 1 2; do
                    rm -rf t2
                    trexe $by {local} --d=$HOME/t2 /bin/sh -c 'cat f f > o'
                    [ $(grep -cx 'by casd' t2/o) = 2 ]
                done
            """)
        self.assertEqual((calls["ActionCache/UpdateActionResult"], calls["Execution/Execute"]),
                         (1, 1))
