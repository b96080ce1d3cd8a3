"""tools/unused and tools/tidy find what they are for: in trees of a few lines."""
import pathlib
import shutil
import subprocess
import tempfile
import unittest

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"


class ToolTest(unittest.TestCase):
    def setUp(self):
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-tools-"))
        self.addCleanup(shutil.rmtree, self.top)
        (self.top / "tools").mkdir()
        shutil.copy2(TOOLS / self.tool, self.top / "tools")

    def write(self, files):
        for name, text in files.items():
            (self.top / name).parent.mkdir(parents=True, exist_ok=True)
            (self.top / name).write_text(text)

    def run_tool(self, **env):
        run = subprocess.run(["/usr/bin/python3", self.top / "tools" / self.tool],
                             capture_output=True, text=True, env=env or None)
        self.assertNotIn("Traceback", run.stderr)
        return run


class UnusedTest(ToolTest):
    tool = "unused"

    def dead(self, files):
        """The names that it says are dead. KEPT is emptied: it is of the real tree."""
        path = self.top / "tools/unused"
        head, rest = path.read_text().split("KEPT = {", 1)
        path.write_text(head + 'KEPT = {"main": ""' + rest[rest.index("\n}"):])
        self.write(files)
        for name in files:
            if name.endswith(".c"):
                to = self.top / "build/release" / pathlib.Path(name).parent / "CMakeFiles/x.dir"
                to.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cc", "-O2", "-c", "-I", self.top, "-o",
                                to / (pathlib.Path(name).name + ".o"), self.top / name], check=True)
        run = self.run_tool(PATH="/usr/bin:/bin")
        words = {line.split()[1] for line in run.stdout.splitlines() if line.endswith("is dead")}
        self.assertEqual(run.returncode, 1 if words else 0, run.stdout + run.stderr)
        return words

    def test_what_only_stands_twice_is_dead(self):
        self.assertEqual(self.dead({"lib/a.c": """
/* again() is told of here, too. */
void again(int n);
void itself(int n);
void told(void);

void again(int n)
{
	(void)n;
}

void itself(int n)
{
	if (n)
		itself(n - 1);
}

void told(void)
{
	static const char *const text = "told() is here";

	(void)text;
}

int main(void)
{
	return 0;
}
"""}), {"again", "itself", "told"})

    def test_what_only_the_dead_use_is_dead(self):
        self.assertEqual(self.dead({"lib/a.c": """
void first(void);
void second(void);
void third(void);
void called(void);

void first(void)
{
}

static void between(void)
{
	first();
}

void second(void)
{
	between();
}

void third(void)
{
	second();
}

void called(void)
{
}

int main(void)
{
	called();
	return 0;
}
"""}), {"first", "second", "third"})

    def test_a_table_and_another_file_are_uses(self):
        self.assertEqual(self.dead({"lib/a.c": """
int in_a_table(void);
int elsewhere(void);

int in_a_table(void)
{
	return 1;
}

int (*const table[])(void) = {
	in_a_table,
};

int elsewhere(void)
{
	return 1;
}
""", "client/b.c": """
int elsewhere(void);

int main(void)
{
	return elsewhere();
}
"""}), set())


class TidyTest(ToolTest):
    tool = "tidy"
    program = r"""#!/bin/sh
case "${0##*/} $*" in
lazyroot-server*) echo '      --data DIR        where it is (default: 1h,'
	echo '                        or so)' ;;
lazyroot-worker*) echo '  -s, --server ADDR     whom to ask' ;;
lazyroot\ ls*) echo '      --all             all of it' ;;
*) echo '  ls  lists' ;;
esac
"""
    documents = """
## lazyroot-server
| `--data DIR` | where it is (default: 1h, or so) |

## lazyroot-worker
| `-s, --server ADDR` | whom to ask |

## lazyroot ls
| `--all` | all of it |
"""

    def findings(self, files):
        subprocess.run(["git", "init", "-q", self.top], check=True)
        (self.top / "tests").mkdir(exist_ok=True)
        self.write({"docs/protocol.md": "", "docs/interfaces.md": self.documents,
                    "lib/base/x.c": "/* X. */\n", **files})
        for name in ("lazyroot", "lazyroot-server", "lazyroot-worker"):
            self.write({f"bin/{name}": self.program})
            (self.top / "bin" / name).chmod(0o755)
        run = self.run_tool(PATH="/usr/bin:/bin", LAZYROOT_BIN=str(self.top / "bin"))
        return [line for line in run.stdout.splitlines() if "clang-format" not in line]

    def test_a_clean_tree_has_no_findings(self):
        self.assertEqual(self.findings({}), [])

    def test_whatever_writes_to_a_terminal_is_found(self):
        calls = ['printf("x");', 'fprintf(stderr, "x");', 'vfprintf(stderr, "x", ap);', 'puts("x");',
                 'fputs("x", stderr);', "putchar('x');", "fputc('x', stderr);", 'perror("x");',
                 'psignal(1, "x");', 'dprintf(2, "x");', 'dprintf(STDERR_FILENO, "x");',
                 'write(1, "x", 1);', 'write(STDOUT_FILENO, "x", 1);', "writev(2, v, 1);",
                 "fwrite(p, 1, n, stdout);"]
        body = "".join(f"\t{call}\n" for call in calls)
        found = self.findings({"client/x.c": f"/* X. */\nstatic void x(void)\n{{\n{body}}}\n"})
        self.assertEqual(len(found), len(calls), found)
        for line in found:
            self.assertIn("say.h", line)

    def test_what_writes_elsewhere_is_not(self):
        body = '\tdprintf(fd, "x");\n\twrite(fd, "x", 1);\n\tsnprintf(s, n, "x");\n'
        self.assertEqual(self.findings(
            {"client/x.c": f"/* printf() is told of. */\nstatic void x(void)\n{{\n{body}}}\n"}), [])

    def test_calls_with_a_home_are_found_outside(self):
        body = "\tpthread_create(&t, NULL, f, x);\n\tpthread_mutex_lock(&m);\n"
        found = self.findings({"server/x.c": f"/* X. */\nstatic void x(void)\n{{\n{body}}}\n"})
        self.assertEqual([line.rpartition(" ")[2] for line in found],
                         ["lib/base/thread.c", "lib/base/sync.h"])

    def test_a_default_that_differs_is_found(self):
        found = self.findings({"docs/interfaces.md": self.documents.replace("1h", "2h")})
        self.assertEqual(len(found), 1, found)
        self.assertIn('--data DIR --help says "where it is (default: 1h, or so)"', found[0])

    def test_an_order_of_locks_that_differs_is_found(self):
        row = "| {} | `x.mutex` (`lib/base/x.c`) | all | nothing |\n"
        code = "/* X. */\nvoid x_init(struct x *x)\n{{\n\tsync_mutex_rank(&x->mutex, {});\n}}\n"
        self.assertEqual(self.findings({"docs/design.md": row.format(3),
                                        "lib/base/x.c": code.format(3)}), [])
        found = self.findings({"docs/design.md": row.format(3), "lib/base/x.c": code.format(4)})
        self.assertEqual(len(found), 1, found)
        self.assertIn("the order of locks", found[0])

    def test_an_option_that_is_told_nowhere_is_found(self):
        found = self.findings(
            {"docs/interfaces.md": self.documents.replace("`--all`", "`--some`")})
        self.assertEqual(sorted(line.partition("ls: ")[2] for line in found),
                         ["--all is not told", "--some is no option"])


del ToolTest  # it is no test itself

if __name__ == "__main__":
    unittest.main()
