"""Inputs without a time of their own all have the same: what tools make of that, and of times that
are given."""
import os

import system
from system import SystemTest

DEFAULT = 1321009871  # 2011-11-11 11:11:11 UTC


class TimesTest(SystemTest):
    worker_args = ("--slots", "1")

    def in_tree(self, files, script):
        """Files of a tree without times, or with the time that stands for none."""
        tree = self.system.tree(self.id(), files)
        for path in tree.rglob("*"):
            os.utime(path, (DEFAULT, DEFAULT))
        return self.assert_ok(self.system.sh(script, "--no-cache", "--input", tree)).text

    def test_headers_of_equal_size_are_two_under_pragma_once(self):
        files = {"a/h.h": "#pragma once\nint one;\n", "b/h.h": "#pragma once\nint two;\n",
                 "main.c": '#include "a/h.h"\n#include "b/h.h"\nint main(void) { return 0 * (one + two); }\n'}
        self.assertEqual(self.in_tree(
            files, "for cc in gcc clang; do if command -v $cc >/dev/null; then $cc -o main main.c &&"
            " ./main && echo both; else echo both; fi; done"), "both\nboth\n")

    def test_what_is_made_is_newer_than_inputs(self):
        files = {"Makefile": "out: in\n\tcp in out\n", "in": "in\n"}
        self.assertEqual(self.in_tree(
            files, "stat -c %Y in Makefile; make -s; make -q && cat out; test out -nt in && echo newer"),
            f"{DEFAULT}\n{DEFAULT}\nin\nnewer\n")

    def test_generated_inputs_are_not_made_again(self):
        """Why it is one time: what a release brings generated (configure, parsers) is no older than
        what it was generated from."""
        files = {"Makefile": "configure: configure.ac\n\tfalse\n", "configure": "x\n",
                 "configure.ac": "y\n"}
        self.assertEqual(self.in_tree(files, "make -q && echo current"), "current\n")


if __name__ == "__main__":
    system.main()
