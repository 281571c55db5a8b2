"""Detached jobs, with real processes in a temporary folder."""

import os
import select
import shutil
import signal
import sys
import tempfile
import time
import unittest

from fercompress_agent import detached
from fercompress_agent.detached import Job


def python(code):
    return [sys.executable, "-c", code]


def lives(pid):
    try:
        with open("/proc/{}/stat".format(pid), "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


@unittest.skipUnless(os.path.isdir("/proc/self"), "jobs are supervised on Linux")
class Detached(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.job = Job(os.path.join(self.folder, "job"))
        self.addCleanup(self.job.forget)
        os.environ[detached.BOOT_ID_FILE] = os.path.join(self.folder, "boot_id")
        self.addCleanup(os.environ.pop, detached.BOOT_ID_FILE)
        self.boot("first")

    def boot(self, name):
        with open(os.path.join(self.folder, "boot_id"), "w") as file:
            file.write(name)

    def start(self, code, deadline_s=30, limit_bytes=1000, lock_fd=-1):
        self.job.start(python(code), self.folder, deadline_s, limit_bytes, lock_fd)

    def until(self, condition):
        limit = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), limit, "it took too long")
            time.sleep(0.01)

    def over(self):
        self.until(lambda: self.job.status()["state"] != "running")
        return self.job.status()

    def text(self, path):
        try:
            with open(os.path.join(self.folder, path)) as file:
                return file.read()
        except OSError:
            return ""

    def test_half_of_a_file_that_a_power_cut_left_is_a_reboot(self):
        self.start("import time; time.sleep(300)")
        self.job.forget()
        os.makedirs(self.job.folder)
        for name in ("alive", "started.json"):  # as ext4 leaves them: there, and empty
            open(self.job.path(name), "w").close()
        self.boot("second")
        self.start("print(1)")
        self.assertEqual(self.job.status()["state"], "rebooted")
        self.job.forget()
        self.start("print(1)")
        self.assertEqual(self.over()["exit"], 0)

    def test_a_job_that_was_never_started_is_unknown(self):
        self.assertEqual(self.job.status()["state"], "unknown")

    def test_it_runs_where_it_is_told_to_and_leaves_its_end_and_streams(self):
        self.start("import os, sys; print(os.getcwd()); sys.stderr.write('oops'); sys.exit(7)")
        status = self.over()
        self.assertEqual((status["state"], status["exit"], status["killed"]), ("ended", 7, ""))
        self.assertEqual((self.text("job/stdout").strip(), self.text("job/stderr")), (os.path.realpath(self.folder), "oops"))

    def test_starting_it_again_takes_it_up_while_it_runs_and_after_its_end(self):
        code = "import os, time\nopen('n', 'a').write('x')\nwhile not os.path.exists('go'): time.sleep(0.01)"
        for _ in range(3):
            self.start(code)
        self.until(lambda: self.text("n"))
        self.start(code)
        open(os.path.join(self.folder, "go"), "w").close()
        self.over()
        self.start(code)
        self.assertEqual(self.job.status()["state"], "ended")
        self.assertEqual(self.text("n"), "x")

    def test_a_folder_whose_starter_was_killed_before_the_command_began_is_started(self):
        os.makedirs(self.job.folder)
        open(self.job.path("alive"), "w").close()
        self.start("print(1)")
        self.assertEqual(self.over()["exit"], 0)

    def test_it_is_no_child_of_its_starter_and_in_a_session_of_its_own(self):
        code = "import os, time\nprint(os.getppid(), flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)"
        self.start(code)
        self.until(lambda: "\n" in self.text("job/stdout"))
        supervisor = int(self.text("job/stdout"))
        with open("/proc/{}/stat".format(supervisor), "rb") as file:
            parent, _, session = map(int, file.read().rpartition(b")")[2].split()[1:4])
        self.assertNotEqual(parent, os.getpid())
        self.assertNotEqual(session, os.getsid(0))
        open(os.path.join(self.folder, "go"), "w").close()
        self.assertEqual(self.over()["exit"], 0)
        with self.assertRaises(ChildProcessError):  # nothing of it is left to wait for
            os.waitpid(supervisor, os.WNOHANG)

    def test_the_deadline_ends_it_whatever_it_does_with_signals(self):
        for deadline_s in (1, 4, 16):  # a busy machine may not have started it within one second
            self.job.forget()
            code = "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(300)"
            self.start(code, deadline_s)
            status = self.over()
            if self.text("job/stdout"):
                break
        self.assertEqual((status["exit"], status["killed"]), (-9, "deadline"))
        self.assertFalse(lives(int(self.text("job/stdout"))))

    def test_more_output_than_the_limit_is_dropped(self):
        self.start("import sys; sys.stdout.write('a' * 3000000); sys.stderr.write('b' * 999)", limit_bytes=1000)
        self.assertEqual(self.over()["exit"], 0)
        self.assertEqual((self.text("job/stdout"), self.text("job/stderr")), ("a" * 1000, "b" * 999))

    def test_it_inherits_no_descriptor_and_the_supervisor_keeps_the_lock(self):
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        code = "import os, time\nprint(sorted(os.listdir('/proc/self/fd')), flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)"
        self.start(code, lock_fd=writing)
        os.close(writing)
        self.until(lambda: "\n" in self.text("job/stdout"))
        self.assertEqual(select.select([reading], [], [], 0)[0], [])  # the end of the pipe comes when its last holder closes it
        open(os.path.join(self.folder, "go"), "w").close()
        self.assertEqual(os.read(reading, 1), b"")
        self.over()
        self.assertEqual(len(eval(self.text("job/stdout"))), 4)  # 0, 1, 2 and the one that lists them

    def test_a_program_that_is_not_there_is_an_end_with_its_reason(self):
        self.job.start(["no-such-program"], self.folder, 30, 1000)
        status = self.over()
        self.assertEqual((status["state"], status["failed"]), ("ended", "No such file or directory"))

    def test_a_killed_supervisor_is_lost_and_its_command_dies(self):
        self.start("import os, time; print(os.getpid(), os.getppid(), flush=True); time.sleep(300)")
        self.until(lambda: "\n" in self.text("job/stdout"))
        command, supervisor = map(int, self.text("job/stdout").split())
        os.kill(supervisor, signal.SIGKILL)
        self.assertEqual(self.over()["state"], "lost")
        self.until(lambda: not lives(command))

    def test_another_boot_is_a_reboot_unless_it_had_ended(self):
        self.start("import os, time; print(os.getppid(), flush=True); time.sleep(300)")
        self.until(lambda: "\n" in self.text("job/stdout"))
        os.kill(int(self.text("job/stdout")), signal.SIGKILL)
        self.boot("second")
        self.assertEqual(self.over()["state"], "rebooted")
        self.job.forget()
        self.start("print(1)")
        self.over()
        self.boot("third")
        self.assertEqual(self.job.status()["state"], "ended")

    def test_an_end_that_a_power_cut_left_half_written_is_none(self):
        self.start("print(1)")
        self.over()
        with open(self.job.path("end.json"), "w") as file:
            file.write('{"exit": 0, "kil')
        self.assertEqual(self.job.status()["state"], "lost")

    def test_forgetting_ends_it_and_leaves_nothing(self):
        self.start("import os, time; open('pid.part', 'w').write(str(os.getpid())); os.rename('pid.part', 'pid'); time.sleep(300)")
        self.until(lambda: self.text("pid"))
        self.job.forget()
        self.assertFalse(os.path.exists(self.job.folder))
        self.until(lambda: not lives(int(self.text("pid"))))

    def test_forgetting_at_once_after_the_start_ends_it_too(self):
        self.start("import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(300)")
        self.job.forget()
        self.assertEqual(self.job.status()["state"], "unknown")
        time.sleep(0.2)
        self.assertFalse(self.text("pid") and lives(int(self.text("pid"))))


if __name__ == "__main__":
    unittest.main()
