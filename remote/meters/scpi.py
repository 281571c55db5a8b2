"""A bench supply or power meter that speaks SCPI over a raw socket, as lines `seconds watts`: python scpi.py HOST [PORT] [CHANNEL]

In the target's file:   [power]
                        source = "command"
                        side = "host"
                        command = ["python3", "scpi.py", "192.168.1.50", "5025"]

Volts and amperes are asked for in one message, so that both are of one moment. Rates are the instrument's: most answer 10 to 50 times a second.
"""

import socket
import sys
import time

ANSWER_S = 2.0


def ask(link, words, reader):
    link.sendall(words.encode("ascii") + b"\n")
    answer = reader.readline()
    if not answer:
        raise SystemExit("the instrument closed the link")
    return answer.decode("ascii").strip()


def main():
    if not 2 <= len(sys.argv) <= 4:
        raise SystemExit(__doc__)
    host, port = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5025
    channel = f" (@{int(sys.argv[3])})" if len(sys.argv) > 3 else ""
    with socket.create_connection((host, port), ANSWER_S) as link, link.makefile("rb") as reader:
        link.settimeout(ANSWER_S)
        print("# " + ask(link, "*IDN?", reader), flush=True)
        while True:
            before = time.monotonic()
            volts, amperes = ask(link, f"MEAS:VOLT?{channel};:MEAS:CURR?{channel}", reader).split(";")
            print(f"{(before + time.monotonic()) / 2:.6f} {float(volts) * float(amperes):.6f}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        raise SystemExit(f"the instrument does not answer: {error}") from error
