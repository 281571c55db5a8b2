"""python agent.pyz job.json: do the job, write its result file.

Exit codes: 0 done; 3 failed, the reason is in the result file; 4 the disk is full (nothing could be written); 1 a bug, with a traceback.
"""

import errno
import json
import os
import signal
import sys

from fercompress_agent import SCHEMA, Problem, facts, governor, jobs, sensors, wheels

EXIT_FAILED = 3
EXIT_DISK_FULL = 4
HOST_PID = "FERCOMPRESS_HOST_PID"


def main(arguments=None):
    interpreter_bytes = sensors.high_water_bytes()  # Python and this agent, before a job or a runtime is read
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.stderr.write("usage: python agent.pyz job.json\n")
        return 2
    with open(str(arguments[0]), "r", encoding="ascii") as file:
        job = json.load(file)
    end_with(job.get("deadline_s"), os.environ.get(HOST_PID))
    result = {"schema": SCHEMA, "nonce": job.get("nonce", ""), "ok": True, "reason": ""}
    wheels.use()
    sysfs = str(job.get("sysfs", "/sys"))
    asked = governor.Asked(job.get("governor"), sysfs)
    try:
        began = dict(facts.at_start(job), **asked.facts())
        code = _done(job, result, interpreter_bytes)
        result["facts"] = dict(began, **dict(result.get("facts", {}), **facts.at_end(sysfs)))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return _disk_full(error)
    finally:
        asked.restore()
    try:
        write_json(str(job["result"]), result)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return _disk_full(error)
    return code


def _done(job, result, interpreter_bytes):
    """Do the job, its answer into `result`; returns the exit code."""
    try:
        if job.get("schema") != SCHEMA:
            raise Problem("job file of schema {}, this agent knows {}: the host must send its own agent".format(job.get("schema"), SCHEMA))
        result.update(jobs.run(job, interpreter_bytes))
        return 0
    except Problem as problem:
        result.update(ok=False, reason=str(problem))
    except MemoryError:
        result.update(ok=False, reason="out of memory on the target")
    return EXIT_FAILED


def write_json(path, value):
    """Under a temporary name, then renamed: a reader sees the whole file or none."""
    temporary = path + ".part"
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)  # the job may have been to remove it
    with open(temporary, "w", encoding="ascii") as file:
        json.dump(value, file, sort_keys=True)
    os.replace(temporary, path)


def _disk_full(error):
    sys.stderr.write("no space left on the target: {}\n".format(error))
    return EXIT_DISK_FULL


def end_with(deadline_s, host_pid):
    """No agent outlives its deadline, nor the host process that waits for it; neither costs anything while the job runs."""
    if deadline_s and hasattr(signal, "alarm"):
        signal.alarm(int(deadline_s) + 5)  # the default action ends the process; the host's own deadline comes first
    if host_pid and sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != int(host_pid):  # it ended before the call
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
