"""recc sends real compilations: gcc of the tree, by its own dependency files."""
import forky


class ReccTest(forky.InteropTest):
    def setUp(self):
        self.project = self.forky.tree(self.id().rsplit(".", 1)[1], {
            "src/main.c": '#include "deep/twice.h"\nint main(void) { return twice(ANSWER); }\n',
            "src/deep/twice.h": "static inline int twice(int n) { return 2 * n; }\n",
            "src/other.cc": "#include <string>\nstd::string other() { return \"o\"; }\n"})

    def recc(self, command, code=0, **settings):
        settings = {"SERVER": self.forky.http, "INSTANCE": "dev",
                    "REMOTE_ENV_PATH": "/usr/bin:/bin", "REMOTE_PLATFORM_OSFamily": "linux",
                    **settings}
        return self.inside(f"exec recc {command}", code, cwd=self.forky.inner(self.project),
                           env={f"RECC_{k}": v for k, v in settings.items()})

    def here(self, script):
        return self.inside(script, cwd=self.forky.inner(self.project)).text

    def test_compiles_remotely_and_then_from_the_cache(self):
        compile_it = "/usr/bin/gcc -DANSWER=21 -O1 -c src/main.c -o main.o"
        with self.forky.counted() as calls:
            self.recc(compile_it)
        self.assertEqual(calls["Execution/Execute"], 1)
        self.assertEqual(self.here("gcc main.o -o main; ./main || echo $?"), "42\n")
        # what comes back is what a compilation here makes
        self.here("cp main.o far.o; gcc -DANSWER=21 -O1 -c src/main.c -o main.o; cmp main.o far.o")
        with self.forky.counted() as calls:
            self.recc(compile_it)
        self.assertEqual((calls["Execution/Execute"], calls["ActionCache/GetActionResult"]), (0, 1))

    def test_an_included_file_is_an_input(self):
        """A changed header is another action; one that is not read is none."""
        self.recc("/usr/bin/gcc -DANSWER=1 -c src/main.c -o main.o")
        (self.project / "src/deep/unread.h").write_text("#error\n")
        with self.forky.counted() as calls:
            self.recc("/usr/bin/gcc -DANSWER=1 -c src/main.c -o main.o")
        self.assertEqual(calls["Execution/Execute"], 0)
        (self.project / "src/deep/twice.h").write_text("static int twice(int n) { return n+6; }\n")
        with self.forky.counted() as calls:
            self.recc("/usr/bin/gcc -DANSWER=1 -c src/main.c -o main.o")
        self.assertEqual(calls["Execution/Execute"], 1)
        self.assertEqual(self.here("gcc main.o -o main; ./main || echo $?"), "7\n")

    def test_dependency_files(self):
        self.recc("/usr/bin/gcc -DANSWER=2 -c -MMD -MF out.d -MT target src/main.c -o main.o")
        self.assertEqual((self.project / "out.d").read_text().split(),
                         ["target:", "src/main.c", "src/deep/twice.h"])

    def test_debug_info_names_the_source(self):
        self.recc("/usr/bin/gcc -DANSWER=3 -g -c src/main.c -o main.o")
        seen = self.here("objdump --dwarf=info main.o | grep -E 'DW_AT_(name|comp_dir)'")
        self.assertIn("src/main.c", seen)
        self.recc("/usr/bin/gcc -DANSWER=3 -g -gsplit-dwarf -c src/main.c -o split.o",
                  OUTPUT_FILES_OVERRIDE="split.o,split.dwo")
        self.assertIn("src/main.c", self.here("strings split.dwo"))

    def test_another_language_links(self):
        self.recc("/usr/bin/g++ -std=c++17 -c src/other.cc -o other.o")
        self.recc("/usr/bin/gcc -DANSWER=4 -c src/main.c -o main.o")
        with self.forky.counted() as calls:
            self.recc("/usr/bin/g++ main.o other.o -o linked", LINK="1")
        self.assertEqual(calls["Execution/Execute"], 1)
        self.assertEqual(self.here("./linked || echo $?"), "8\n")

    def test_an_error_of_the_compiler_is_its(self):
        (self.project / "src/bad.c").write_text("int f(void) { return nothing; }\n")
        run = self.recc("/usr/bin/gcc -c src/bad.c -o bad.o", code=1)
        self.assertIn("src/bad.c:1:22: error: 'nothing' undeclared", run.err.replace("‘", "'")
                      .replace("’", "'"))
        self.assertFalse((self.project / "bad.o").exists())

    def test_verifies_what_came_back(self):
        """RECC_VERIFY runs it here, too, and compares."""
        run = self.recc("/usr/bin/gcc -DANSWER=5 -c src/main.c -o main.o", VERIFY="1",
                        LOG_LEVEL="info")
        self.assertNotIn("mismatch", run.err)
        self.assertTrue((self.project / "main.o").exists())

    def test_only_the_cache(self):
        with self.forky.counted() as calls:
            for _ in range(2):
                self.recc("/usr/bin/gcc -DANSWER=6 -c src/main.c -o main.o", CACHE_ONLY="1",
                          CACHE_UPLOAD_LOCAL_BUILD="1")
        self.assertEqual((calls["Execution/Execute"], calls["ActionCache/UpdateActionResult"],
                          calls["ActionCache/GetActionResult"]), (0, 1, 1))
