"""The page under load: clients that draw through its API at once, and more than its queue takes.

    python -m studies page

starts `nextscale app`, asks for a minute, and writes docs/results/page.json.
"""

import json
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import psutil
from gradio_client import Client
from gradio_client.utils import QueueError
from jsonargparse import Namespace
from playwright.sync_api import sync_playwright

from nextscale.console.options import Parser
from nextscale.console.report import check_report, write_report
from nextscale.errors import UsageError

RESULT = "docs/results/page.json"
MODEL = "fashion-mnist"
CLIENTS = 20
SECONDS = 60
QUEUE = 64
FLOOD = 100  # requests at once, beyond the queue


@dataclass
class Answers:
    """What clients were told."""

    seconds: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def start() -> tuple[subprocess.Popen[str], str]:
    """The page's process and its address."""
    command = [
        sys.executable,
        "-m",
        "nextscale",
        "app",
        MODEL,
        "--port",
        "0",
        "--queue",
        str(QUEUE),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"http://\S+?/?(?=;|$)", line)
        if found:
            return process, found[0]
    raise UsageError("the page did not start, and has told why")


def ask(client: Client, answers: Answers, seed: int) -> None:
    """Draws one image and notes how long it took, or that it was refused."""
    begin = time.perf_counter()
    try:
        client.predict(["Bag"], 1, seed, 1.5, 0, 0, False, api_name="/draw")
        answers.seconds.append(time.perf_counter() - begin)
    except QueueError as error:
        answers.refused.append(str(error))


def steadily(client: Client, answers: Answers, end: float, first_seed: int) -> None:
    """Asks again and again until the time is over."""
    seed = first_seed
    while time.perf_counter() < end:
        ask(client, answers, seed)
        seed += 1


def together(tasks: list[threading.Thread]) -> None:
    """Runs threads to their end."""
    for task in tasks:
        task.start()
    for task in tasks:
        task.join()


def first_picture(address: str) -> float | None:
    """Seconds from a click on Draw to the first picture in a browser; None without chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(address)
        button = page.get_by_role("button", name="Draw", exact=True)
        button.wait_for()
        begin = time.perf_counter()
        button.click()
        page.locator("#drawn img").first.wait_for()
        seconds = time.perf_counter() - begin
        browser.close()
    return seconds


def add_arguments(parser: Parser) -> None:
    """Adds the options of `page`."""
    parser.add_argument("--json", type=str, default=RESULT, help="file of the report")


def run(options: Namespace) -> None:
    """Loads the page, writes the report and prints it."""
    check_report(options.json)
    process, address = start()
    try:
        clients = [Client(address, verbose=False) for _ in range(CLIENTS)]
        server = psutil.Process(process.pid)
        ask(clients[0], Answers(), 0)
        memory, steady, flood = [server.memory_info().rss], Answers(), Answers()
        half = SECONDS / 2
        for part in range(2):
            end = time.perf_counter() + half
            together(
                [
                    threading.Thread(target=steadily, args=(c, steady, end, 1000 * (i + 20 * part)))
                    for i, c in enumerate(clients)
                ]
            )
            memory.append(server.memory_info().rss)
        together(
            [
                threading.Thread(target=ask, args=(clients[i % CLIENTS], flood, i))
                for i in range(FLOOD)
            ]
        )
        alone = Answers()
        ask(clients[0], alone, 1)
        appears = first_picture(address)
    finally:
        process.terminate()
        process.wait()
    result = {
        "clients": CLIENTS,
        "seconds": SECONDS,
        "answered": len(steady.seconds),
        "refused": len(steady.refused),
        "median_seconds": statistics.median(steady.seconds),
        "slowest_seconds": max(steady.seconds),
        "memory_mib_before_half_and_end": [round(bytes_ / 2**20) for bytes_ in memory],
        "flood": FLOOD,
        "flood_answered": len(flood.seconds),
        "flood_refused": len(flood.refused),
        "refusal": next(iter(flood.refused), ""),
        "seconds_alone_afterwards": alone.seconds[0],
        "seconds_from_click_to_first_picture": appears,
    }
    write_report(result, options.json)
    print(json.dumps(result, indent=2))
