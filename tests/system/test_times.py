"""Times of inputs and outputs: nothing old is taken for new, and what is stored twice is one."""
import os
import subprocess

import system
from system import SystemTest

OLD, NEW = 1_600_000_000, 1_600_000_100


def set_times(root, times):
    for path, seconds in times.items():
        os.utime(root / path, (seconds, seconds))
    return root


class TimesTest(SystemTest):
    def sources(self, name, **more):
        tree = self.system.tree(name, {
            "Makefile": "prog: prog.o\n\tcp prog.o prog\nprog.o: prog.c\n\tcp prog.c prog.o\n",
            "prog.c": "new\n", "prog.o": "old\n", **more})
        return set_times(tree, {"Makefile": OLD, "prog.c": NEW, "prog.o": OLD + 50})

    def test_make_sees_that_a_product_is_older_than_its_source(self):
        tree = self.sources("make")
        for args, made in (((), "new\n"), (("--mtimes", "always"), "new\n"),
                           (("--mtimes", "never"), "old\n")):
            with self.subTest(args=args):
                run = self.assert_ok(self.system.sh("make -s; cat prog.o", "--input", tree, *args))
                self.assertEqual(run.text, made)

    def test_make_sees_that_a_linked_program_is_older_than_its_source(self):
        tree = self.system.tree("linked", {"main.c": "int main(void) { return 5; }\n",
                                           "Makefile": "prog: main.c\n\tgcc -o prog main.c\n"})
        subprocess.run(["make", "-s", "-C", tree], check=True)
        (tree / "main.c").write_text("int main(void) { return 6; }\n")
        set_times(tree, {"prog": OLD, "main.c": NEW})
        for args, code in (((), 6), (("--mtimes", "never"), 5)):
            with self.subTest(args=args):
                run = self.system.sh("make -s; ./prog", "--input", tree, *args)
                self.assertEqual(run.code, code, run.err)

    def test_a_product_that_is_newer_is_not_made_again(self):
        tree = set_times(self.sources("newer"), {"prog.o": NEW + 50})
        run = self.assert_ok(self.system.sh("make -s prog.o; cat prog.o", "--input", tree))
        self.assertEqual(run.text, "old\n")

    def test_sources_and_products_from_two_inputs_are_compared(self):
        tree = self.sources("two")
        products = set_times(self.system.tree("two-products", {"x.o": ""}), {"x.o": OLD + 50})
        (tree / "prog.o").unlink()
        for order in ((tree, f"{products}=out"), (f"{products}=out", tree)):
            run = self.assert_ok(self.system.sh(
                "[ prog.c -nt out/x.o ] && ! [ out/x.o -nt prog.c ] && echo newer",
                *[word for path in order for word in ("--input", path)]))
            self.assertEqual(run.text, "newer\n")

    def test_an_edited_module_is_not_run_from_its_old_bytecode(self):
        tree = self.system.tree("bytecode", {"module.py": "print('one')\n"})
        run = ("--", "/usr/bin/python3", "-c", "import module")
        self.assert_ok(self.system.run("--input", tree, "--output", "__pycache__", "--download",
                                       tree, *run))
        self.assertTrue(list(tree.glob("__pycache__/*.pyc")))
        (tree / "module.py").write_text("print('two')\n")  # of the same length
        self.assertEqual(self.assert_ok(self.system.run("--input", tree, *run)).text, "two\n")
        self.assertEqual(self.assert_ok(self.system.run("--input", tree, "--mtimes", "never",
                                                        *run)).text, "one\n", "what it is about")

    def test_sources_alone_are_one_action_whenever_they_were_checked_out(self):
        tree = self.system.tree("checkout", {"a.c": "a", "d/b.h": "b"})
        seen = set()
        for seconds in (OLD, NEW):
            set_times(tree, {"a.c": seconds, "d/b.h": seconds})
            seen.add(self.system.upload(tree))
        self.assertEqual(len(seen), 1)
        always = self.system.lazyroot("upload", "--mtimes", "always", tree).text.strip()
        self.assertNotIn(always, seen)

    def test_times_come_back_with_a_download(self):
        tree = self.sources("back", **{"d/x.o": "x"})
        set_times(tree, {"d/x.o": 1_234_567_890})
        dest = self.system.dir / "times-back"
        self.assert_ok(self.system.lazyroot("download", self.system.upload(tree), dest))
        for path in ("prog.c", "prog.o", "d/x.o"):
            self.assertEqual((dest / path).stat().st_mtime_ns, (tree / path).stat().st_mtime_ns)

    def test_files_without_times_all_get_one(self):
        tree = self.system.tree("one-time", {f"d{i}/f{i}": str(i) for i in range(50)})
        dest = self.system.dir / "one-time-back"
        self.assert_ok(self.system.lazyroot("download", "--force", self.system.upload(tree), dest))
        self.assertEqual(len({p.stat().st_mtime_ns for p in dest.glob("d*/f*")}), 1)

    def test_outputs_of_a_build_with_times_keep_theirs(self):
        tree = self.sources("outputs")
        dest = self.system.dir / "times-out"
        self.assert_ok(self.system.sh(
            "touch -d @1500000000 a; mkdir d; touch -d @1500000001 d/b; ls",
            "--input", tree, "--output", "a", "--output", "d", "--output", "prog.c",
            "--download", dest))
        self.assertEqual((dest / "a").stat().st_mtime, 1500000000)
        self.assertEqual((dest / "d/b").stat().st_mtime, 1500000001)

    def test_a_second_build_over_the_outputs_of_the_first_has_nothing_to_do(self):
        tree = self.sources("again")
        self.assert_ok(self.system.sh("make -s", "--input", tree, "--output", "prog.o",
                                      "--output", "prog", "--download", tree))
        run = self.assert_ok(self.system.sh("make -q && echo nothing", "--input", tree))
        self.assertEqual(run.text, "nothing\n")
        self.assertEqual(subprocess.run(["make", "-q"], cwd=tree).returncode, 0)


class EarlierOutputsTest(SystemTest):
    """prog has no name that says what it is: the client remembers that it put it there."""

    def build(self, name):
        tree = set_times(self.system.tree(name, {
            "Makefile": "prog: main\n\tcp main prog\n", "main": "one\n"}), {"main": OLD})
        self.assert_ok(self.system.sh("make -s", "--input", tree, "--output", "prog",
                                      "--download", tree))
        self.assertEqual((tree / "prog").read_text(), "one\n")
        return tree

    def test_an_output_of_an_earlier_run_is_not_taken_for_new(self):
        tree = self.build("earlier")
        (tree / "main").write_text("two\n")
        run = self.assert_ok(self.system.sh("make -s; cat prog", "--input", tree))
        self.assertEqual(run.text, "two\n")
        never = self.assert_ok(self.system.sh("make -s; cat prog", "--input", tree,
                                              "--mtimes", "never"))
        self.assertEqual(never.text, "one\n", "what it is about")

    def test_below_and_beside(self):
        tree = self.build("nested/in")
        plain = self.system.tree("nested-not", {"main": "one\n"})
        always = self.system.lazyroot("upload", "--mtimes", "always", tree.parent).text
        self.assertEqual(self.system.lazyroot("upload", tree.parent).text, always)
        (tree / "prog").unlink()  # what is gone asks for nothing
        never = self.system.lazyroot("upload", "--mtimes", "never", tree.parent).text
        self.assertEqual(self.system.lazyroot("upload", tree.parent).text, never)
        self.assertEqual(self.system.lazyroot("upload", plain).text,
                         self.system.lazyroot("upload", "--mtimes", "never", plain).text)


class AboveTest(SystemTest):
    def test_outputs_above_the_working_directory(self):
        tree = self.system.tree("above", {"w/f": "1"})
        dest = self.system.dir / "above-out"
        run = self.assert_ok(self.system.sh(
            "echo 2 > ../o2; echo 3 > o3; mkdir ../d; echo 4 > ../d/x; ln -s x ../l", "--input", tree,
            "--workdir", "w", "--output", "../o2", "--output", "o3", "--output", "../w/../d/",
            "--output", "../l", "--output", "../none", "--download", dest))
        self.assertEqual((dest / "o2").read_text(), "2\n")
        self.assertEqual((dest / "w/o3").read_text(), "3\n")
        self.assertEqual((dest / "d/x").read_text(), "4\n")
        self.assertEqual(os.readlink(dest / "l"), "x")
        self.assertIn("did not make: ../none\n", run.err)
        self.assertFalse((self.system.dir / "o2").exists())

    def test_wait_knows_what_was_declared(self):
        dest = self.system.dir / "above-wait"
        tree = self.system.tree("above-waited", {"w/f": "1"})
        name = self.system.lazyroot(
            "run", "--detach", "--input", tree, "--workdir", "w", "--output", "../o2", "--output",
            "none", "--", "/bin/sh", "-c", "echo 2 > ../o2").text.strip()
        run = self.assert_ok(self.system.lazyroot("wait", name, "--download", dest))
        self.assertEqual((dest / "o2").read_text(), "2\n")
        self.assertIn("did not make: none\n", run.err)

    def test_one_way_to_write_them_is_one_action(self):
        tree = self.system.tree("above-forms", {"w/f": "1"})
        actions = {self.assert_ok(self.system.sh(
            "echo > x", "--input", tree, "--workdir", "w", "--output", path,
            "--no-download")).report["action"] for path in ("x", "../w/x", "./y/../x")}
        self.assertEqual(len(actions), 1)

    def test_leaving_the_root_is_refused_before_anything_is_sent(self):
        for args, word in ((("--workdir", "w", "--output", "../../x", "--", "true"), "--output"),
                           (("--input", f"{self.system.dir}=../x", "--", "true"), "--input"),
                           (("--", ""), "COMMAND")):
            run = self.system.lazyroot("run", *args, address="grpc://127.0.0.1:1")
            self.assertEqual(run.code, 2, run.err)
            self.assertIn(word, run.err)

    def test_outputs_without_room_do_not_hide_the_exit_code(self):
        room = self.system.dir / "small"
        room.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", room], check=True)
        try:
            run = self.system.sh("head -c 3000000 /dev/zero > big; exit 4", "--no-cache",
                                 "--output", "big", "--download", room)
            left = os.listdir(room)
        finally:
            subprocess.run(["umount", room], check=True)
        self.assertEqual((run.code, left), (125, []))
        self.assertIn("the command ended with 4", run.err)
        self.assertIn("No space left", run.err)


if __name__ == "__main__":
    system.main()
