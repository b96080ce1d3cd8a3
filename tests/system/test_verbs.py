"""The verbs that store, show and bring back: upload, download, ls, cat, mount, action."""
import filecmp
import json
import os
import subprocess

import system
from system import SystemTest, mounts_below, wait_until


def same_tree(a, b):
    compare = filecmp.dircmp(a, b, ignore=[])
    if compare.left_only or compare.right_only or compare.funny_files:
        return False
    _, mismatch, errors = filecmp.cmpfiles(a, b, compare.common_files, shallow=False)
    links = all(os.readlink(os.path.join(a, n)) == os.readlink(os.path.join(b, n))
                for n in os.listdir(a) if os.path.islink(os.path.join(a, n)))
    return not mismatch and not errors and links and all(
        same_tree(os.path.join(a, d), os.path.join(b, d)) for d in compare.common_dirs
        if not os.path.islink(os.path.join(a, d)))


class VerbsTest(SystemTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tree = cls.system.tree("tree", {
            "a.txt": "hello\n", "dir/deep/f": "f" * 10000, "dir/run": ("exec", "#!/bin/sh\n"),
            "dir/link": ("link", "deep/f"), "empty": None, "zero": "",
            "large": os.urandom(9 << 20), "l2": ("link", "/absolute/nowhere"),
            "ü\udcff".encode(errors="surrogateescape").decode(errors="surrogateescape"): "odd"})
        cls.digest = cls.system.upload(cls.tree)

    def test_upload_prints_a_digest_a_line(self):
        run = self.assert_ok(self.system.lazyroot("upload", self.tree / "a.txt", self.tree))
        self.assertEqual(run.text.splitlines(), [
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03/6", self.digest])

    def test_second_upload_sends_nothing(self):
        run = self.assert_ok(self.system.lazyroot("upload", "--log", "debug", self.tree))
        self.assertNotIn("BatchUpdateBlobs", run.err)
        self.assertNotIn("ByteStream/Write", run.err)
        self.assertIn("FindMissingBlobs", run.err)
        # a file just written is read once more: its times cannot tell a later change apart
        wait_until(lambda: "read 0 " in self.system.lazyroot("upload", self.tree).err,
                   "an upload that reads no file")

    def test_changed_file_is_read_and_sent_again(self):
        tree = self.system.tree("changing", {"f": "one", "g": "two"})
        first = self.system.upload(tree)
        (tree / "f").write_text("six")  # same size, within the clock's granularity
        second = self.system.upload(tree)
        self.assertNotEqual(first, second)
        self.assertEqual(self.system.lazyroot("cat", second, "f").text, "six")

    def test_download_brings_back_what_was_uploaded(self):
        dest = self.system.dir / "back"
        self.assert_ok(self.system.lazyroot("download", self.digest, dest))
        self.assertTrue(same_tree(self.tree, dest))
        self.assertTrue(os.access(dest / "dir/run", os.X_OK))
        self.assertFalse(os.access(dest / "a.txt", os.X_OK))

    def test_download_of_a_tree_replaces_or_merges_only_when_asked(self):
        dest = self.system.dir / "taken"
        tree = self.system.tree("small", {"a": "new", "d/f": "f"})
        digest = self.system.upload(tree)

        def download(*args):
            return self.system.lazyroot("download", *args, digest, dest)
        dest.mkdir()
        self.assert_ok(download())  # an empty directory is as good as none
        (dest / "mine").write_text("kept")
        (dest / "a").write_text("old")
        run = download()
        self.assertEqual(run.code, 1)
        self.assertIn("--merge", run.err)
        self.assertIn("--force", run.err)
        self.assertEqual((dest / "a").read_text(), "old")
        self.assert_ok(download("--merge"))
        self.assertEqual((dest / "mine").read_text(), "kept")
        self.assertEqual((dest / "a").read_text(), "new")
        self.assert_ok(download("--force"))
        self.assertTrue(same_tree(tree, dest))
        self.assertEqual(download("--force", "--merge").code, 2)

    def test_without_a_home_everything_works(self):
        nowhere = {"XDG_CACHE_HOME": "", "HOME": ""}
        read_only = {"XDG_CACHE_HOME": "/proc/nothing", "HOME": ""}
        tmp = self.system.dir / "tmp"
        tmp.mkdir()
        for env in (nowhere, read_only):
            for args in (("upload", self.tree), ("ls", self.digest), ("cat", self.digest, "a.txt"),
                         ("download", self.digest, self.system.dir / f"home{len(env['HOME'])}"),
                         ("run", "--input", self.tree, "--", "/bin/true")):
                with self.subTest(args=args, env=env):
                    run = self.assert_ok(self.system.lazyroot(
                        *args, env={**env, "TMPDIR": str(tmp)}))
                    self.assertEqual(run.err.count("no cache directory"), 1, run.err)
                    self.assertEqual(list(tmp.iterdir()), [], "nothing stays")
            subprocess.run(["rm", "-rf", self.system.dir / "home0"], check=True)

    def test_download_of_a_file(self):
        digest = self.system.upload(self.tree / "large")
        dest = self.system.dir / "one-file"
        self.assert_ok(self.system.lazyroot("download", digest, dest))
        self.assertTrue(filecmp.cmp(self.tree / "large", dest, shallow=False))

    def test_download_of_an_unknown_digest_names_it(self):
        digest = "0" * 64 + "/5"
        run = self.system.lazyroot("download", digest, self.system.dir / "never")
        self.assertEqual(run.code, 1)
        self.assertIn(digest, run.err)
        self.assertFalse((self.system.dir / "never").exists())

    def test_malformed_digest(self):
        place = self.system.dir / "nothing-mounted"
        place.mkdir()
        for text in ("nonsense", "ABC/1", "0" * 64, "0" * 64 + "/-1", "etc/passwd"):
            for args in (("cat", text), ("ls", text), ("mount", text, place),
                         ("action", text), ("download", text, "/nowhere/x")):
                self.assertEqual(self.system.lazyroot(*args).code, 2, args)
        self.assertIn("HASH/SIZE", self.system.lazyroot("cat", "0" * 64).err)

    def test_ls(self):
        run = self.assert_ok(self.system.lazyroot("ls", self.digest))
        self.assertIn("dir/", run.text.splitlines())
        run = self.assert_ok(self.system.lazyroot("ls", "-l", "-R", self.digest, "dir"))
        self.assertIn("deep/f", run.text)
        self.assertIn("link -> deep/f", run.text)
        run = self.assert_ok(self.system.lazyroot("ls", "--json", self.digest, "dir"))
        entries = {e["path"]: e for e in json.loads(run.text)}
        self.assertTrue(entries["run"]["executable"])
        self.assertEqual(entries["link"]["target"], "deep/f")
        run = self.system.lazyroot("ls", self.digest, "no/such")
        self.assertEqual(run.code, 1)
        self.assertIn("no/such", run.err)

    def test_ls_fetches_no_file_content(self):
        fresh = {"XDG_CACHE_HOME": str(self.system.dir / "fresh-home")}
        run = self.assert_ok(self.system.lazyroot("ls", "-R", self.digest, env=fresh))
        self.assertIn("dir/deep/f", run.text)
        size = sum(p.stat().st_size for p in (self.system.dir / "fresh-home").rglob("*")
                   if p.is_file() and "blobs" in p.parts)
        self.assertLess(size, 5000)

    def test_cat(self):
        self.assertEqual(self.system.lazyroot("cat", self.digest, "a.txt").text, "hello\n")
        large = self.system.lazyroot("cat", self.digest, "large")
        self.assertEqual(large.out, (self.tree / "large").read_bytes())
        self.assertEqual(self.system.lazyroot("cat", self.digest, "dir").code, 1)

    def mount(self, *args):
        point = self.system.dir / "mnt"
        point.mkdir(exist_ok=True)
        self.assert_ok(self.system.lazyroot("mount", *args, point))
        self.addCleanup(lambda: subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL))
        return point

    def test_mount_shows_the_tree(self):
        point = self.mount(self.digest)
        self.assertTrue(same_tree(self.tree, point))
        self.assertEqual(os.getxattr(point / "a.txt", "user.digest").decode().rstrip("\0"),
                         "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03/6")
        with self.assertRaises(OSError):
            (point / "new").write_text("x")
        subprocess.run(["fusermount3", "-u", point], check=True)
        wait_until(lambda: not mounts_below(point), "the mount's end")
        wait_until(lambda: not any(b"mount" in system.command_line(p)
                                   for p in system.sandboxes_with(str(point))), "its process")

    def test_mount_without_digest_shows_any_tree_by_name(self):
        point = self.mount()
        name = self.digest.replace("/", "-")
        self.assertEqual((point / name / "a.txt").read_text(), "hello\n")
        self.assertEqual(os.listdir(point), [])
        self.assertFalse((point / ("0" * 64 + "-7")).exists())
        subprocess.run(["umount", point], check=True)

    def test_mount_on_a_missing_directory_names_it(self):
        run = self.system.lazyroot("mount", self.digest, "/no/such/place")
        self.assertEqual(run.code, 1)
        self.assertIn("/no/such/place", run.err)

    def test_action(self):
        run = self.assert_ok(self.system.sh("echo out > o", "--input", self.tree, "--output", "o",
                                            "--workdir", "dir", "--no-download"))
        shown = self.assert_ok(self.system.lazyroot("action", run.report["action"]))
        self.assertIn("/bin/sh -c 'echo out > o'", shown.text)
        self.assertIn("exit code 0", shown.text)
        data = json.loads(self.assert_ok(
            self.system.lazyroot("action", "--json", run.report["action"])).text)
        self.assertEqual(data["workdir"], "dir")
        self.assertEqual(data["result"]["files"][0]["path"], "o")
        self.assertEqual(data["environment"], {"PATH": "/usr/bin:/bin"})

    def test_action_of_something_else(self):
        run = self.system.lazyroot("action", self.digest)
        self.assertEqual(run.code, 1)

    def test_capabilities(self):
        data = json.loads(self.assert_ok(self.system.lazyroot("capabilities", "--json")).text)
        self.assertEqual(data["digest_functions"], ["SHA256"])
        self.assertEqual(data["compressors"], [], "who is on its machine is not offered any")
        self.assertTrue(data["execution"])

    def test_help_of_every_verb(self):
        for verb in ("upload", "download", "run", "wait", "cancel", "mount", "ls", "cat",
                     "action", "capabilities"):
            run = self.system.lazyroot(verb, "--help")
            self.assertEqual(run.code, 0)
            self.assertIn(f"Usage: lazyroot {verb}", run.text)
            self.assertEqual(self.system.lazyroot("help", verb).text, run.text)

    def test_configuration_file(self):
        config = self.system.dir / "lazyroot.yaml"
        config.write_text(f"server: {self.system.address}\njson: true\n")
        env = {"LAZYROOT_CONFIG": str(config), "LAZYROOT_SERVER": self.system.address}
        self.assertIn("{", self.system.lazyroot("capabilities", env=env).text)
        config.write_text("server: x\nnonsense: 1\n")
        run = self.system.lazyroot("capabilities", env=env)
        self.assertEqual(run.code, 2)
        self.assertIn("nonsense", run.err)
        self.assertIn("line 2", run.err)


if __name__ == "__main__":
    system.main()
