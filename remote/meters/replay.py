"""A recorded file of lines `seconds watts`, printed at the pace at which it was recorded, from its first line on: python replay.py FILE

At its end it begins again, so that a short recording feeds a pass of any length. For trying out a target's [power] without a meter.
"""

import sys
import time


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with open(sys.argv[1], encoding="ascii") as file:
        lines = [line.split() for line in file if line.strip() and not line.startswith("#")]
    recorded = [(float(seconds), float(watts)) for seconds, watts in lines]
    if len(recorded) < 2:
        raise SystemExit(f"{sys.argv[1]}: at least two lines `seconds watts` are needed")
    first, last = recorded[0][0], recorded[-1][0]
    period = last - first + (last - first) / (len(recorded) - 1)  # one step between the last line and the first again
    began, turn = time.monotonic(), 0
    while True:
        for seconds, watts in recorded:
            since = seconds - first + turn * period
            time.sleep(max(began + since - time.monotonic(), 0))
            print(f"{since:.6f} {watts:.6f}", flush=True)
        turn += 1


if __name__ == "__main__":
    main()
