"""The command line: one table of commands, and the only place where errors become text and an exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback

import click
from rich.console import Console

from fercompress import __version__
from fercompress.boardcli import board
from fercompress.bundlecli import bundle
from fercompress.datacli import data
from fercompress.errors import FercompressError
from fercompress.gatecli import calibrate, compare, gate
from fercompress.pickcli import pick
from fercompress.plancli import plan
from fercompress.predictcli import predict
from fercompress.searchcli import search
from fercompress.studycli import compress, init, measure, report, run, train
from fercompress.verifycli import verify

INTERNAL_ERROR = 70  # sysexits.h: a mistake of ours, with a traceback
INTERRUPTED = 130  # 128 + SIGINT


def main() -> None:
    """Run the command line and exit with its code."""
    stderr = Console(stderr=True)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        code = app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort) as stop:
        # click makes an Abort of an interrupt; what is true after it was said by the command that was interrupted.
        stderr.print(str(stop.__cause__ or stop) or "stopped", style="yellow", markup=False, highlight=False, soft_wrap=True)
        code = INTERRUPTED
    except FercompressError as error:
        stderr.print(f"fercompress: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        code = error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception:
        stderr.print(traceback.format_exc(), markup=False, highlight=False, soft_wrap=True)
        stderr.print("fercompress: internal error, a mistake of ours: please report it with the text above", style="red")
        code = INTERNAL_ERROR
    sys.exit(code or 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fercompress")
def app() -> None:
    """Compress video expression models by quantization and tensor trains, measure every variant, report what each choice bought.

    STUDY is a shipped study's name or a .toml file (`fercompress init` writes one to edit).

    Exit codes: 0 ok, 1 a gate found something worse, a sealed run was changed or no variant fits a budget, 2 usage or bad input, 3 a gate was
    inconclusive or no variant is known to fit, 4 device or infrastructure (a full disk too), 5 not comparable, 70 internal error, 130 Ctrl-C.
    """


for command in (board, bundle, calibrate, compare, compress, data, gate, init, measure, pick, plan, predict, report, run, search, train, verify):
    app.add_command(command)
