#!/usr/bin/env python3
"""Foresight is worth what docs/foresight.md says, over all recorded traces: calls, bytes, and
simulated times, none of which depends on this machine."""
import unittest

import replay

# Calls at 10 ms, a little above what it takes: first ever, and with a profile.
CALLS = {
    "c": (16, 12), "configure": (40, 16), "cxx": (40, 12), "cxx-headers": (12, 4), "find": (10, 8),
    "go": (50, 18), "grep": (12, 10), "javac": (18, 10), "link": (12, 10), "node": (14, 12),
    "python": (16, 12), "python-tests": (20, 12), "rust": (36, 20), "tar": (14, 10),
}


class Traces(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.outcomes = replay.run_all((), (0.2, 10, 50), 1000)

    def each(self, check, *rtts):
        for (name, rtt), by in self.outcomes.items():
            if rtt in rtts:
                with self.subTest(f"{name} at {rtt} ms"):
                    check(name, by)

    def test_every_trace_is_bounded(self):
        self.assertEqual({name for name, _ in self.outcomes}, set(CALLS))

    def test_it_is_never_slower_than_none(self):
        def check(_, by):
            for predictor in ("first", "again"):
                self.assertLessEqual(by[predictor]["ms"], 1.02 * by["none"]["ms"], predictor)
        self.each(check, 0.2, 10, 50)

    def test_calls_are_few(self):
        def check(name, by):
            self.assertLessEqual(by["first"]["calls"], CALLS[name][0])
            self.assertLessEqual(by["again"]["calls"], CALLS[name][1])
        self.each(check, 10)

    def test_a_first_run_fetches_at_most_twice_what_is_read(self):
        self.each(lambda _, by: self.assertLessEqual(by["first"]["times_read"], 2), 0.2, 10, 50)

    def test_with_a_profile_little_is_wasted_and_hardly_anything_missed(self):
        def check(_, by):
            self.assertLessEqual(by["again"]["times_read"], 1.05)
            self.assertLessEqual(by["again"]["missed"], 0.1 * by["again"]["files_read"])
        self.each(check, 10, 50)

    def test_with_a_profile_it_takes_what_the_oracle_takes(self):
        self.each(lambda _, by: self.assertLessEqual(by["again"]["times_oracle"], 1.2), 10, 50)

    def test_a_first_run_is_near_the_oracle(self):
        self.each(lambda _, by: self.assertLessEqual(by["first"]["times_oracle"], 1.6), 10)

    def test_each_source_pays(self):
        """Somewhere by a tenth at least; what was learned, nearly everywhere."""
        for source in ("certain", "derived", "seen"):
            self.assertTrue(any(by[f"without-{source}"]["ms"] > 1.1 * by["first"]["ms"]
                                for (_, rtt), by in self.outcomes.items() if rtt == 10), source)
        self.each(lambda _, by: self.assertLessEqual(by["again"]["ms"], 1.01 * by["first"]["ms"]), 50)


if __name__ == "__main__":
    unittest.main()
