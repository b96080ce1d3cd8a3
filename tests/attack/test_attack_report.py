"""The read report as tools see it that know nothing of us: a Struct in an Any, printed by protobuf's
own JSON, whatever the names in it are."""
import json
import unittest

from google.protobuf import any_pb2, json_format, struct_pb2

from attack import Peer, data, field, fields, shell
from system import System, need_root

assert struct_pb2  # whose registration is what printing needs


class ReportTest(unittest.TestCase):
    def setUp(self):
        need_root()
        self.system = System()
        # what is fetched ahead is not waited for
        self.system.start_worker("--slots", "1", "--foresight", "off")

    def tearDown(self):
        self.system.close()

    def test_prints_everywhere(self):
        with Peer(self.system.address) as peer:
            name = b"caf\xe9"
            node = data(1, data(1, name) + data(2, peer.put(b"slow")))
            command = shell("cat caf*; mkdir d; : > d/$(printf '\\377'); mkfifo d/fifo") + data(7, "d")
            status, text, result = peer.execute(command, peer.put(node))
        self.assertEqual((status, field(result, 4, 0)), ("OK", 0), text)
        metadata = field(result, 9)
        found = [value for n, value in fields(metadata) if n == 11]
        self.assertEqual(len(found), 1)
        any_ = any_pb2.Any.FromString(found[0])
        shown = json.loads(json_format.MessageToJson(any_))
        self.assertEqual(shown["@type"], "type.googleapis.com/google.protobuf.Struct")
        report = shown["value"]["lazyroot.v1.ReadReport"]
        self.assertEqual(report["input"]["files"], 1)
        self.assertIs(report["input"]["known"], True)
        self.assertEqual(report["fetched"]["bytes"] > 0, True)
        self.assertEqual([s["path"] for s in report["slowest"]], ["caf\\xe9"])
        self.assertEqual(sorted(report["notes"]),
                         ["d/\\xff: its name is not UTF-8, skipped", "d/fifo: a FIFO, skipped"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
