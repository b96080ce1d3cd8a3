"""Our worker and client under BuildGrid, the last version whose SQL scheduler takes SQLite."""
import unittest

from buildgrid import BuildGridTests, SQLite


class BuildGridSQLiteTest(BuildGridTests, unittest.TestCase):
    database = SQLite
