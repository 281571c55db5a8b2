"""The porter's requests, its workspace's lock and its frames."""

import fcntl
import hashlib
import json
import os
import shutil
import struct
import tempfile
import threading
import unittest

from fercompress_agent import Problem, porter
from fercompress_agent.porter import Busy, Ended, Porter, Wire


class InWorkspace(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.porter = self.new("run-1")
        self.porter.claim()

    def new(self, token):
        found = Porter(self.folder, {"token": token, "name": "me@there, process 1"}, 1 << 30)
        self.addCleanup(lambda: found.lock >= 0 and os.close(found.lock))
        return found


class Files(InWorkspace):
    def send(self, name, content, pieces=2):
        sha256 = hashlib.sha256(content).hexdigest()
        step = -(-len(content) // pieces)
        for offset in range(0, len(content), step):
            self.porter.write({"name": name, "sha256": sha256, "offset": offset}, content[offset : offset + step])
        return self.porter.commit({"name": name, "sha256": sha256}, b"")

    def test_pieces_become_a_file_when_they_are_what_was_promised(self):
        self.assertEqual(self.send("a/b", b"content"), {"sound": True})
        with open(os.path.join(self.folder, "files", "a", "b"), "rb") as file:
            self.assertEqual(file.read(), b"content")

    def test_every_request_may_come_twice(self):
        sha256 = hashlib.sha256(b"content").hexdigest()
        name = {"name": "x", "sha256": sha256}
        for _ in range(2):
            self.porter.write(dict(name, offset=0), b"cont")
        for _ in range(2):
            self.assertEqual(self.porter.write(dict(name, offset=4), b"ent"), {"part_bytes": 7})
        for _ in range(2):
            self.assertEqual(self.porter.commit(name, b""), {"sound": True})
        self.assertEqual(self.porter.have(name, b""), {"there": True})
        for _ in range(2):
            self.assertEqual(self.porter.remove(name, b""), {})

    def test_damaged_pieces_do_not_become_a_file_and_do_not_stay(self):
        name = {"name": "x", "sha256": hashlib.sha256(b"content").hexdigest()}
        self.porter.write(dict(name, offset=0), b"CONTENT")
        self.assertEqual(self.porter.commit(name, b""), {"sound": False})
        self.assertEqual(os.listdir(self.porter.files), [])

    def test_what_has_come_of_a_file_is_told_by_its_content(self):
        name = {"name": "x", "sha256": hashlib.sha256(b"content").hexdigest()}
        self.porter.write(dict(name, offset=0), b"cont")
        self.assertEqual(self.porter.have(name, b"")["part_bytes"], 4)
        self.assertEqual(self.porter.have({"name": "x", "sha256": "0" * 64}, b"")["part_bytes"], 0)

    def test_a_later_piece_without_the_first_is_not_taken(self):
        name = {"name": "x", "sha256": "0" * 64, "offset": 4}
        self.assertEqual(self.porter.write(name, b"ent"), {"part_bytes": 0})

    def test_names_stay_below_the_workspace(self):
        os.symlink("/tmp", os.path.join(self.porter.files, "out"))
        for name in ("../x", "/etc/passwd", "a/../../x", "", "a//b", ".", "out/x", "a\0b"):
            with self.assertRaises(Problem, msg=name):
                self.porter.stat({"name": name, "limit_bytes": 1}, b"")

    def test_names_of_jobs_are_no_paths(self):
        for name in ("", "..", "a/b", "A", "a b"):
            with self.assertRaises(Problem, msg=name):
                self.porter.job(name)

    def test_cleaning_removes_everything_but_what_is_kept_and_tells_how_much(self):
        self.send("keep", b"12345")
        self.send("folder/x", b"0123456789")
        self.assertEqual(self.porter.clean({"keep": ["keep"]}, b""), {"freed_bytes": 10})
        self.assertEqual(os.listdir(self.porter.files), ["keep"])

    def test_a_folder_is_no_file_to_fetch(self):
        self.send("folder/x", b"1")
        self.assertEqual(self.porter.stat({"name": "folder", "limit_bytes": 10}, b""), {"there": False})

    def test_a_damaged_agent_file_starts_nothing(self):
        self.send("agent.pyz", b"sound")
        with open(os.path.join(self.porter.files, "agent.pyz"), "wb") as file:
            file.write(b"damaged")
        ask = {"job": "ab", "argv": ["python3", "agent.pyz"], "deadline_s": 1, "limit_bytes": 1}
        ask["check"] = {"agent.pyz": hashlib.sha256(b"sound").hexdigest()}
        self.assertEqual(self.porter.start(ask, b""), {"pack_sound": False})
        self.assertEqual(os.listdir(self.porter.jobs), [])


class Lock(InWorkspace):
    def test_another_owner_is_told_who_has_it(self):
        with self.assertRaises(Busy) as caught:
            self.new("run-2").claim()
        self.assertEqual(caught.exception.args[0]["name"], "me@there, process 1")

    def test_a_later_link_of_the_same_owner_takes_over(self):
        later = self.new("run-1")
        later.claim()
        self.assertTrue(later.holds())
        os.pwrite(later.lock, json.dumps({"token": "run-1", "porter": -1}).encode("ascii").ljust(1024), 0)  # as a third one would
        self.assertFalse(self.porter.holds())

    def test_it_is_free_when_the_last_holder_closed_it(self):
        os.close(self.porter.lock)
        self.porter.lock = -1
        other = self.new("run-2")
        other.claim()
        self.assertTrue(other.holds())

    def test_the_same_owner_comes_back_while_only_a_job_of_its_holds_the_lock(self):
        job = os.open(os.path.join(self.folder, "lock"), os.O_RDWR)
        self.addCleanup(os.close, job)
        fcntl.flock(job, fcntl.LOCK_SH)
        os.close(self.porter.lock)
        self.porter.lock = -1
        with self.assertRaises(Busy):
            self.new("run-2").claim()
        self.new("run-1").claim()


class Frames(InWorkspace):
    def setUp(self):
        super().setUp()
        there, self.write_fd = os.pipe()
        self.read_fd, back = os.pipe()
        self.ends = [there, self.write_fd, self.read_fd, back]
        self.addCleanup(lambda: [os.close(end) for end in self.ends if end >= 0])
        self.wire, self.host = Wire(there, back), Wire(self.read_fd, self.write_fd)

    def close_input(self):
        os.close(self.write_fd)
        self.ends[1] = -1

    def served(self):
        self.close_input()
        with self.assertRaises(Ended):
            porter.serve(self.porter, self.wire)

    def test_a_request_gets_the_answer_with_its_number(self):
        self.host.send({"ask": "have", "name": "x", "sha256": "0" * 64, "id": 7})
        self.served()
        header, body = self.host.receive()
        self.assertEqual((header["id"], header["there"], body), (7, False, b""))

    def test_a_piece_of_a_file_is_the_body(self):
        with open(os.path.join(self.porter.files, "x"), "wb") as file:
            file.write(b"\xff\x00" * 10)
        self.host.send({"ask": "read", "name": "x", "offset": 2, "id": 1})
        self.served()
        self.assertEqual(self.host.receive()[1], b"\xff\x00" * 9)

    def test_what_was_not_used_for_longest_makes_room_and_what_is_kept_does_not(self):
        for age, name in enumerate(("bundles/new/m", "clips/middle.npy", "bundles/needed/m", "agent-old.pyz", "site/n/m", "jobs/x.json", "bundles/old/m")):
            path = os.path.join(self.porter.files, *name.split("/"))
            if not os.path.isdir(os.path.dirname(path)):
                os.makedirs(os.path.dirname(path))
            with open(path, "wb") as file:
                file.write(b"x" * 1000)
            for each in (path, os.path.dirname(path)):
                os.utime(each, (1e9 - age, 1e9 - age))
        self.porter.disk_bytes = porter.used_bytes(self.folder) + 3000
        ask = {"needed_bytes": 4500, "keep": ["bundles/needed", "agent-now.pyz"]}
        found = self.porter.evict(ask, b"")
        self.assertEqual(found["removed"], ["bundles/old", "agent-old.pyz"])
        self.assertGreaterEqual(found["room_bytes"], 4500)
        self.assertEqual(self.porter.evict(ask, b"")["removed"], [])
        sha256 = hashlib.sha256(b"x" * 1000).hexdigest()
        self.assertTrue(self.porter.have({"name": "clips/middle.npy", "sha256": sha256}, b"")["there"])  # it is used: now the other one is older
        self.assertEqual(self.porter.evict(dict(ask, needed_bytes=5500), b"")["removed"], ["bundles/new"])
        self.assertEqual(self.porter.evict(dict(ask, needed_bytes=99000), b"")["removed"], ["clips/middle.npy"])
        left = sorted(os.path.relpath(os.path.join(where, name), self.porter.files) for where, _, names in os.walk(self.porter.files) for name in names)
        self.assertEqual(left, ["bundles/needed/m", "jobs/x.json", "site/n/m"])

    def test_what_is_refused_and_what_the_disk_refuses_are_answers(self):
        self.host.send({"ask": "read", "name": "../x", "offset": 0, "id": 1})
        self.host.send({"ask": "read", "name": "none", "offset": 0, "id": 2})
        self.served()
        self.assertIn("must stay below", self.host.receive()[0]["refused"])
        self.assertEqual(self.host.receive()[0]["error"], "No such file or directory")

    def test_an_earlier_link_stops_when_a_later_one_has_taken_over(self):
        os.pwrite(self.porter.lock, b'{"token": "run-1", "porter": -1}'.ljust(1024), 0)
        self.host.send({"ask": "remove", "name": "x", "id": 1})
        with self.assertRaises(Ended):
            porter.serve(self.porter, self.wire)

    def test_a_frame_beyond_the_limits_ends_the_link(self):
        os.write(self.write_fd, struct.pack(">II", 1 << 30, 0))
        with self.assertRaises(Ended):
            self.wire.receive()

    def test_silence_ends_the_link(self):
        idle_s, porter.IDLE_S = porter.IDLE_S, 0.05
        try:
            with self.assertRaises(Ended):
                self.wire.receive()
        finally:
            porter.IDLE_S = idle_s

    def test_a_large_body_arrives_in_pieces(self):
        body = os.urandom(500000)
        sender = threading.Thread(target=self.host.send, args=({"id": 1}, body))
        sender.start()
        self.assertEqual(self.wire.receive(), ({"id": 1}, body))
        sender.join()


if __name__ == "__main__":
    unittest.main()
