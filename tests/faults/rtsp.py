#!/usr/bin/env python3
"""Kills, restarts and freezes a camera, and checks what a live source makes of it.

    tests/faults/rtsp.py [--watch target/release/examples/watch] [--cycles 20] [--play 5] [--freeze 40] [--soak 600]

Build the watcher first: cargo build --release --example watch. Two cameras (rtsp_server.py, numbered frames) are
followed at once. The first is killed and started again `--cycles` times, stays away 0 to 6 seconds each time, is then
frozen for `--freeze` seconds, and left alone for `--soak`. Checked: pictures again within 5 s of the server's return;
received + gaps = sent, by the numbers read back; a frozen camera noticed within 10 s, pictures within 15 s of its
waking; the second camera loses nothing; memory, descriptors and threads stay flat. Ends with a JSON line of figures;
the exit code is 0 if every check holds.
"""

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
STEP = 1_000_000
PIPELINE = """
[sources.{id}]
type = "rtsp"
url = "rtsp://127.0.0.1:{port}/cam"
segment_secs = 1.0
frames_min = 1
keep_mb = 8
"""


class Lines:
    """Lines of a child, each with the time at which it was read."""

    def __init__(self, stream):
        self.queue = queue.Queue()
        threading.Thread(target=self.read, args=(stream,), daemon=True).start()

    def read(self, stream):
        for line in stream:
            self.queue.put((time.monotonic(), line))
        self.queue.put((time.monotonic(), None))

    def all(self):
        found = []
        while not self.queue.empty():
            found.append(self.queue.get())
        return found


class Server:
    """A camera; `sent` are the numbers of its frames."""

    def __init__(self, first, port="0"):
        command = [sys.executable, os.path.join(HERE, "rtsp_server.py"), "--port", str(port), "--first", str(first)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines = Lines(self.process.stdout)
        self.first = first
        while True:
            self.ready, line = self.lines.queue.get(timeout=60)
            if line is None:
                sys.exit("SKIPPED: rtsp.py: the server of GStreamer or python3-gi is not installed")
            if line.startswith("port "):
                self.port = int(line.split()[1])
                return

    def sent(self):
        """How many frames went to the encoder so far; the last word may be cut off."""
        for _, line in self.lines.all():
            if line and line.startswith("sent ") and line.endswith("\n"):
                self.last = int(line.split()[1])
        return getattr(self, "last", self.first - 1) - self.first + 1

    def kill(self):
        self.process.kill()
        self.process.wait()
        time.sleep(0.1)


class Watcher:
    """The program under test, and what it has said so far."""

    def __init__(self, binary, pipeline):
        self.process = subprocess.Popen([binary, pipeline], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = Lines(self.process.stdout)
        self.numbers, self.counts = {}, {}
        self.unread = self.broken_segments = 0
        self.is_over = False

    def look(self):
        for _, line in self.lines.all():
            if line is None:
                self.is_over = True
                return
            said = json.loads(line)
            source = said["source"]
            if "counts" in said:
                self.counts[source] = said["counts"]
            elif "numbers" in said:
                found = said["numbers"]
                self.unread += sum(number is None for number in found)
                found = [number for number in found if number is not None]
                self.broken_segments += any(b != a + 1 for a, b in zip(found, found[1:]))
                self.numbers.setdefault(source, []).extend(found)

    def received(self, source):
        self.look()
        return self.counts.get(source, {}).get("frames_received", 0)

    def until(self, condition, seconds):
        """When `condition` held, None if it did not within `seconds`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            if self.is_over:
                sys.exit(f"the watcher ended: {self.process.stderr.read()}")
            if condition():
                return time.monotonic()
            time.sleep(0.01)
        return None


def taken(pid):
    """Resident KiB, descriptors and threads of a process."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        status = dict(line.split(":", 1) for line in file)
    return int(status["VmRSS"].split()[0]), len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"])


def soak(watcher, seconds):
    """Memory growth in KiB a minute, and the ranges of descriptors and threads."""
    rows, begin = [], time.monotonic()
    while time.monotonic() < begin + seconds:
        rows.append((time.monotonic() - begin, *taken(watcher.process.pid)))
        watcher.look()
        time.sleep(min(5, seconds / 20))
    rows = rows[len(rows) // 4 :]
    mean = [sum(row[i] for row in rows) / len(rows) for i in range(2)]
    spread = sum((row[0] - mean[0]) ** 2 for row in rows) or 1
    slope = sum((row[0] - mean[0]) * (row[1] - mean[1]) for row in rows) / spread * 60
    return {
        "seconds": round(seconds),
        "rss_mib": round(mean[1] / 1024, 1),
        "slope_kib_per_min": round(slope, 1),
        "descriptors": [min(row[2] for row in rows), max(row[2] for row in rows)],
        "threads": [min(row[3] for row in rows), max(row[3] for row in rows)],
    }


def cycles(watcher, port, count, play):
    """Kills and restarts; seconds until pictures came again, and (first, sent) of every life."""
    back, lives = [], []
    for number in range(count):
        before = watcher.received("victim")
        server = Server((number + 1) * STEP, port)
        seen = watcher.until(lambda: watcher.received("victim") > before, 60)
        back.append(round(seen - server.ready, 2) if seen else None)
        time.sleep(play)
        server.kill()
        lives.append((server.first, server.sent()))
        time.sleep(number % 7)
    return back, lives


def freeze(watcher, port, seconds):
    """Seconds until the frozen camera was noticed, and from its waking until pictures came."""
    server = Server(900 * STEP, port)
    watcher.until(lambda: watcher.counts["victim"]["state"] == "playing", 60)
    time.sleep(2)
    server.process.send_signal(signal.SIGSTOP)
    frozen = time.monotonic()
    noticed = watcher.until(lambda: watcher.counts["victim"]["state"] == "stalled", 30)
    time.sleep(max(0, frozen + seconds - time.monotonic()))
    before = watcher.received("victim")
    server.process.send_signal(signal.SIGCONT)
    woken = time.monotonic()
    back = watcher.until(lambda: watcher.received("victim") > before, 60)
    time.sleep(1)
    return server, noticed and round(noticed - frozen, 2), back and round(back - woken, 2)


def account(numbers, lives):
    """Of the numbers of killed servers: sent, read back, and missing before the first that came, inside, and behind
    the last: what was on its way when the server was killed."""
    sent = received = before = inside = at_end = 0
    for first, count in lives:
        found = sorted(number for number in numbers if first <= number < first + STEP)
        sent += count
        received += len(found)
        if found:
            before += found[0] - first
            inside += found[-1] - found[0] + 1 - len(found)
            at_end += max(first + count - 1 - found[-1], 0)
        else:
            at_end += count
    gaps = {"missing_before": before, "missing_inside": inside, "missing_at_kill": at_end}
    return {"sent": sent, "received": received, **gaps}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watch", default="target/release/examples/watch")
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--play", type=float, default=5)
    parser.add_argument("--freeze", type=float, default=40)
    parser.add_argument("--soak", type=float, default=600)
    args = parser.parse_args()
    bystander, victim = Server(0), Server(0)
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(PIPELINE.format(id="victim", port=victim.port) + PIPELINE.format(id="bystander", port=bystander.port))
        file.flush()
        watcher = Watcher(args.watch, file.name)
        watcher.until(lambda: watcher.received("victim") > 50 and watcher.received("bystander") > 50, 60)
        victim.kill()
        lives = [(0, victim.sent())]
        back, more = cycles(watcher, victim.port, args.cycles, args.play)
        lives += more
        server, noticed, awake = freeze(watcher, victim.port, args.freeze)
        soaked = soak(watcher, args.soak)
        bystander_sent = bystander.sent()
        watcher.process.terminate()
        watcher.process.wait()
        time.sleep(0.2)
        watcher.look()
    for one in (server, bystander):
        one.process.kill()
    figures = {
        "cycles": args.cycles,
        "back_secs": back,
        "back_secs_max": max((b for b in back if b is not None), default=None),
        "victim": account(watcher.numbers["victim"], lives),
        "frozen_noticed_secs": noticed,
        "awake_secs": awake,
        "soak": soaked,
    }
    steady = watcher.numbers["bystander"]
    figures["bystander"] = {
        "received": len(steady),
        "sent": bystander_sent,
        "missing_inside": steady[-1] - steady[0] + 1 - len(steady),
        "reconnects": watcher.counts["bystander"]["reconnects"],
    }
    counts = watcher.counts["victim"]
    figures["victim_counts"] = counts
    whole, numbers = figures["victim"], watcher.numbers["victim"]
    jumps = sum(b != a + 1 for a, b in zip(numbers, numbers[1:]))
    gaps = whole["missing_before"] + whole["missing_inside"] + whole["missing_at_kill"]
    checks = {
        "pictures again within 5 s": all(b is not None and b <= 5 for b in back),
        "received + gaps = sent": whole["received"] + gaps == whole["sent"],
        # One segment of a second is not finished at the end.
        "its own count = numbers read back": 0
        <= counts["frames_received"] - sum(counts["frames_left_out"].values()) - len(numbers)
        <= 26,
        "every gap is at a counted break": jumps <= counts["breaks"],
        "no number twice": len(set(numbers)) == len(numbers),
        "nothing missing inside a connection": whole["missing_inside"] == 0,
        "every number readable": watcher.unread == 0,
        "no segment over a gap": watcher.broken_segments == 0,
        "frozen noticed within 10 s": noticed is not None and noticed <= 10,
        "pictures within 15 s of waking": awake is not None and awake <= 15,
        "the bystander lost nothing": figures["bystander"]["missing_inside"] == 0
        and figures["bystander"]["reconnects"] == 0,
        "counts reconcile": counts["frames_received"]
        == counts["frames_used"] + counts["frames_dropped"] + counts["frames_kept"]
        + sum(counts["frames_left_out"].values()),
        "memory flat": soaked["slope_kib_per_min"] < 1024,
        "descriptors and threads flat": all(max_ - min_ <= 2 for min_, max_ in (soaked["descriptors"], soaked["threads"])),
    }
    for name, holds in checks.items():
        print(f"{'ok    ' if holds else 'FAILED'}  {name}")
    print(json.dumps(figures))
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
