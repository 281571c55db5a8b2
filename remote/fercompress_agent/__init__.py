"""The agent: it runs on the machine that is measured, and holds the only timing loop of the project.

One job file (JSON) in, one result file (JSON) out, in a fresh process each. Standard library of CPython 3.6 only: numpy and the inference
runtimes are imported by an engine, never before. The host packs this package into one zip file and starts it as `python agent.pyz job.json`.
"""

SCHEMA = 1  # of job and result files
MEASURE = 2  # raise it when a change here may change a block's numbers: finished blocks are then measured again


class Problem(Exception):
    """A failure whose reason a person can act upon; it becomes the result's `reason`."""
