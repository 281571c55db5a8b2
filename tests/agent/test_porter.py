"""The porter's requests, its workspace's lock and its frames."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import struct
import tempfile
import threading
import time
import unittest

from fercompress_agent import Problem, porter, spelling, wire
from fercompress_agent.porter import Porter
from fercompress_agent.wire import Ended, Wire
from fercompress_agent.workspacelock import Busy, WorkspaceLock


class InWorkspace(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.porter = self.new("run-1")
        self.porter.lock.claim()

    def new(self, token):
        found = Porter(self.folder, {"token": token, "name": "me@there, process 1"}, 1 << 30)
        self.addCleanup(self.let_go, found.lock)
        return found

    def let_go(self, lock):
        if lock.descriptor >= 0:
            os.close(lock.descriptor)
        lock.descriptor = -1


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
        for name in ("../x", "/etc/passwd", "a/../../x", "", "a//b", ".", "out/x", "a\0b", "a\0b/c", "\ud800"):
            with self.assertRaises(Problem, msg=name):
                self.porter.stat({"name": name, "limit_bytes": 1}, b"")

    def test_names_of_jobs_are_no_paths(self):
        for name in ("", "..", "a/b", "A", "a b"):
            with self.assertRaises(Problem, msg=name):
                self.porter.job(name)

    def test_cleaning_removes_everything_but_what_is_kept_and_tells_how_much(self):
        self.send("keep", b"12345")
        self.send("folder/x", b"0123456789")
        self.assertEqual(self.porter.clean({"keep": ["keep"]}, b""), {"freed_bytes": 10, "last": {"name": "", "since": ""}})
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


    def test_a_file_that_is_gone_when_it_is_read_is_told_as_gone(self):
        self.send("x", b"content")
        self.assertTrue(self.porter.stat({"name": "x", "limit_bytes": 10}, b"")["there"])
        os.remove(os.path.join(self.porter.files, "x"))
        self.assertEqual(self.porter.read({"name": "x", "offset": 0}, b""), ({"gone": True}, b""))
        self.assertEqual(self.porter.output({"job": "ab", "stream": "stdout", "offset": 0}, b""), ({"gone": True}, b""))

    def test_while_somebody_else_removes_everything_no_request_breaks(self):
        """Another link of the same run, or a cleaner, empties the workspace between any two steps of a request."""
        over = threading.Event()

        def clean():
            while not over.is_set():
                for name in os.listdir(self.porter.files):
                    shutil.rmtree(os.path.join(self.porter.files, name), True)

        cleaner = threading.Thread(target=clean)
        cleaner.start()
        content, taken = os.urandom(5000), []
        name = {"name": "bundles/a/b", "sha256": hashlib.sha256(content).hexdigest()}
        try:
            for turn in range(300):
                asks = [("write", dict(name, offset=0)), ("have", name), ("stat", dict(name, limit_bytes=10000)), ("read", dict(name, offset=0))]
                asks += [("commit", name), ("evict", {"needed_bytes": 1 << 50, "keep": []}), ("remove", name), ("hello", {}), ("running", {})]
                for ask, fields in asks:
                    try:
                        taken.append(porter.REQUESTS[ask](self.porter, fields, content if ask == "write" else b""))
                    except FileNotFoundError:  # `serve` makes it an answer, and the host sends the file again
                        self.assertEqual(ask, "write", turn)
        finally:
            over.set()
            cleaner.join()
        self.assertTrue(taken)


class Spelling(InWorkspace):
    def test_a_name_is_its_utf_8_bytes_on_the_disk_whatever_the_locale(self):
        name = {"name": u"bundles/gl\u00fccklich \u7b11", "sha256": hashlib.sha256(b"x").hexdigest()}
        self.porter.write(dict(name, offset=0), b"x")
        self.assertEqual(self.porter.commit(name, b""), {"sound": True})
        self.assertEqual(os.listdir(os.path.join(self.porter.files, "bundles").encode("ascii")), [u"gl\u00fccklich \u7b11".encode("utf-8")])
        self.assertEqual(self.porter.stat(dict(name, limit_bytes=9), b"")["bytes"], 1)
        self.assertEqual(self.porter.evict({"needed_bytes": 1 << 60, "keep": []}, b"")["removed"], [name["name"]])

    def test_what_is_not_utf_8_is_removed_too_and_told_as_text(self):
        os.makedirs(os.path.join(self.porter.files, "bundles"))
        open(os.path.join(self.porter.files, "bundles").encode("ascii") + b"/\xff", "w").close()
        self.assertEqual(self.porter.evict({"needed_bytes": 1 << 60, "keep": []}, b"")["removed"], [u"bundles/\ufffd"])
        self.assertEqual(os.listdir(os.path.join(self.porter.files, "bundles")), [])

    def test_text_goes_there_and_back(self):
        for text in ("plain", u"\u00e4", u"\u7b11 \U0001f600"):
            self.assertEqual(spelling.told(spelling.here(text)), text)
        self.assertEqual(spelling.told(None), "")


class Lock(InWorkspace):
    def test_another_owner_is_told_who_has_it(self):
        with self.assertRaises(Busy) as caught:
            self.new("run-2").lock.claim()
        self.assertEqual(caught.exception.args[0]["name"], "me@there, process 1")

    def test_a_later_link_of_the_same_owner_takes_over(self):
        later = self.new("run-1")
        later.lock.claim()
        self.assertTrue(later.lock.held())
        os.pwrite(later.lock.descriptor, json.dumps({"token": "run-1", "porter": -1}).encode("ascii").ljust(1024), 0)  # as a third one would
        self.assertFalse(self.porter.lock.held())

    def test_it_is_free_when_the_last_holder_closed_it(self):
        since = self.porter.lock.read()["since"]
        self.let_go(self.porter.lock)
        other = self.new("run-2")
        other.lock.claim()
        self.assertTrue(other.lock.held())
        self.assertEqual(other.clean({"keep": []}, b"")["last"], {"name": "me@there, process 1", "since": since})

    def test_who_was_refused_holds_nothing(self):
        refused = self.new("run-2")
        with self.assertRaises(Busy):
            refused.lock.claim()
        self.let_go(self.porter.lock)
        self.new("run-3").lock.claim()

    def test_the_process_that_serves_the_owner_is_told_from_one_that_only_has_its_number(self):
        self.assertEqual(self.porter.lock.porter(), os.getpid())
        other = WorkspaceLock(os.path.join(self.folder, "other"), {"token": "run-1"})
        self.addCleanup(self.let_go, other)
        other.claim()
        os.pwrite(other.descriptor, json.dumps({"porter": os.getppid()}).encode("ascii").ljust(1024), 0)
        self.assertEqual(other.porter(), 0)

    def test_the_same_owner_comes_back_while_only_a_job_of_its_holds_the_lock(self):
        job = os.open(os.path.join(self.folder, "lock"), os.O_RDWR)
        self.addCleanup(os.close, job)
        fcntl.flock(job, fcntl.LOCK_SH)
        self.let_go(self.porter.lock)
        with self.assertRaises(Busy):
            self.new("run-2").lock.claim()
        self.new("run-1").lock.claim()


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
        self.host.send({"ask": "write", "name": "file/x", "offset": 0, "sha256": "0" * 64, "id": 2})
        open(os.path.join(self.porter.files, "file"), "w").close()
        self.served()
        self.assertIn("must stay below", self.host.receive()[0]["refused"])
        self.assertEqual(self.host.receive()[0]["error"], os.strerror(errno.EEXIST))

    def test_an_earlier_link_stops_when_a_later_one_has_taken_over(self):
        os.pwrite(self.porter.lock.descriptor, b'{"token": "run-1", "porter": -1}'.ljust(1024), 0)
        self.host.send({"ask": "remove", "name": "x", "id": 1})
        with self.assertRaises(Ended):
            porter.serve(self.porter, self.wire)

    def test_a_frame_beyond_the_limits_ends_the_link(self):
        os.write(self.write_fd, struct.pack(">II", 1 << 30, 0))
        with self.assertRaises(Ended):
            self.wire.receive()

    def test_silence_ends_the_link(self):
        self.wire.idle_s = 0.05
        with self.assertRaises(Ended):
            self.wire.receive()

    def test_an_answer_that_nobody_takes_ends_the_link(self):
        self.wire.stall_s = 0.1
        with self.assertRaises(Ended):
            self.wire.send({"id": 1}, bytes(1000000))  # more than a pipe holds

    def test_a_host_that_reads_slowly_gets_the_whole_answer(self):
        self.wire.stall_s = 20.0
        body = os.urandom(300000)
        sender = threading.Thread(target=self.wire.send, args=({"id": 1}, body))
        sender.start()
        frame = struct.pack(">II", 9, len(body)) + b'{"id": 1}' + body
        taken = b""
        while len(taken) < len(frame):
            taken += os.read(self.read_fd, 7000)
            time.sleep(0.002)
        sender.join()
        self.assertEqual(taken, frame)

    def test_a_large_body_arrives_in_pieces(self):
        body = os.urandom(500000)
        sender = threading.Thread(target=self.host.send, args=({"id": 1}, body))
        sender.start()
        self.assertEqual(self.wire.receive(), ({"id": 1}, body))
        sender.join()


if __name__ == "__main__":
    unittest.main()
