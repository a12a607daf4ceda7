"""Rows of the HTTP endpoint: a real server and a real client on the same two cores, many requests in flight.

The model is the light-curve classifier of size=small, untrained. Every request holds light curves of 60 to 420 points
with their catalogue features as JSON. The client is one process with a connection for each request in flight. It sends
the next request when the last one is answered, so the latency is what a client sees at the highest rate. It shares the
cores with the server, so its requests are written down beforehand and an answer is read no further than its end and
its status.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from astrom3.modalities.schema import CLASSES, META_COLS, PHOTO_COLS

AIM = 500  # light curves/s
BODIES = 64
HEAD = "POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n"
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
CASES = {"1 light curve a request, 32 in flight": (1, 32), "16 light curves a request, 8 in flight": (16, 8)}


def rows(full: bool, only: str) -> Iterator[dict[str, Any]]:
    titles = {f"serving, {name}": case for name, case in CASES.items() if only in f"serving, {name}"}
    if not titles:
        return
    with tempfile.TemporaryDirectory() as folder:
        small_model(Path(folder))
        with subprocess.Popen(
            [sys.executable, "-m", "astrom3.serve", f"model={folder}", "device=cpu", "port=0"],
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            try:
                port = port_of(server)
                for title, (curves, connections) in titles.items():
                    before = processor_seconds(server.pid)
                    found = measured(title, port, curves, connections, 30 if full else 8)
                    used = 1000 * (processor_seconds(server.pid) - before) / found.pop("curves")
                    found["text"] += f"; {used:.2f} ms of the server's processor time each"
                    yield found
            finally:
                server.terminate()
                server.communicate()


def processor_seconds(process: int) -> float:
    """That a process has used up to now (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def port_of(server: subprocess.Popen[str]) -> int:
    """As the server prints it once it answers."""
    assert server.stdout is not None
    for line in server.stdout:
        if "answers at" in line:
            return int(line.split(" until")[0].rpartition(":")[2])
    raise RuntimeError("the server does not start")


def measured(title: str, port: int, curves: int, connections: int, seconds: float) -> dict[str, Any]:
    """The client runs in a process of its own."""
    command = [sys.executable, "-m", "experiments.bench.serving", str(port), str(curves), str(connections)]
    done = subprocess.run([*command, str(seconds)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    rate = found["rate"]
    return {
        "name": title,
        "rate": {"median": rate, "min": rate, "max": rate},
        "text": f"{rate:,.0f}, median {found['median_ms']:.0f} ms, p99 {found['p99_ms']:.0f} ms",
        "p99_ms": found["p99_ms"],
        "curves": found["curves"],
        "target": {"rate": AIM},
        "reached": rate >= AIM,
    }


def small_model(folder: Path) -> None:
    """The light-curve classifier of size=small with statistics of nothing."""
    import torch

    from astrom3.encoders.informer import InformerEncoder
    from astrom3.encoders.towers import Classifier
    from astrom3.files import write_json
    from astrom3.modalities.catalogue import Normaliser
    from astrom3.published import astrom3 as published

    torch.manual_seed(0)
    published.save(Classifier(InformerEncoder(d_model=32, d_ff=64, e_layers=2), len(CLASSES)), folder)
    values = np.random.default_rng(0).uniform(1, 20, (1000, len(PHOTO_COLS) + len(META_COLS)))
    about = {"classes": list(CLASSES), "normaliser": Normaliser.fit(values).to_dict()}
    write_json(folder / "preprocessing.json", about)


def light_curve(draws: np.random.Generator) -> dict[str, Any]:
    """An object as JSON has it, with the digits that a survey gives."""
    points = int(draws.integers(60, 420))
    time = 2457000 + np.cumsum(draws.uniform(0.6, 6.0, points))
    flux = draws.normal(10, 2, points)
    error = draws.uniform(0.05, 0.2, points)
    curve = {"time": time.round(5).tolist(), "flux": flux.round(4).tolist(), "flux_err": error.round(4).tolist()}
    return {"light_curve": curve, "metadata": {name: float(draws.uniform(1, 20)) for name in PHOTO_COLS}}


def client(port: int, curves: int, connections: int, seconds: float) -> dict[str, float]:
    """Light curves/s, and the median and 99th percentile of the latency [ms], after a fifth of the time to warm up."""
    draws = np.random.default_rng(0)
    bodies = [json.dumps({"objects": [light_curve(draws) for _ in range(curves)]}).encode() for _ in range(BODIES)]
    requests = [HEAD.format(length=len(body)).encode() + body for body in bodies]
    begin = time.monotonic() + seconds / 5
    end = begin + seconds
    latencies: list[float] = []
    answered: list[int] = []

    def ask(number: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            while time.monotonic() < end:
                number += 1
                sent = time.monotonic()
                connection.sendall(requests[number % BODIES])
                read_answer(connection)
                answered.append(curves)
                if begin <= sent and time.monotonic() <= end:
                    latencies.append(time.monotonic() - sent)

    threads = [threading.Thread(target=ask, args=(7 * k,)) for k in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "curves": sum(answered),
        "rate": len(latencies) * curves / seconds,
        "median_ms": 1000 * float(np.median(latencies)),
        "p99_ms": 1000 * float(np.percentile(latencies, 99)),
    }


def read_answer(connection: socket.socket) -> None:
    """RuntimeError where the answer is another than 200."""
    answer = connection.recv(1 << 16)
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(1 << 16)
    head, _, content = answer.partition(b"\r\n\r\n")
    found = LENGTH.search(head)
    assert found is not None
    while len(content) < int(found[1]):
        content += connection.recv(1 << 16)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(content.decode())


if __name__ == "__main__":
    port, curves, connections = (int(word) for word in sys.argv[1:4])
    print(json.dumps(client(port, curves, connections, float(sys.argv[4]))))
