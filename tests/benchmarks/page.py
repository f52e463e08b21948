"""How large the page of a large model is, and how fast it is in a headless Chromium: made-up numbers, real files.

PYTHONPATH=scripts:tests/helpers python tests/benchmarks/page.py [LAYERS HEADS [TASKS ITEMS WORDS]]
"""

import sys
import tempfile
import time
from pathlib import Path

from browser import Browser, Tab
from page_samples import write_sample

OPENINGS, PINS = 5, 9
MB = 10**6
# Milliseconds from the click until the head's items stand on the page, with the browser's next frame.
PIN = """new Promise((done) => {
  const start = performance.now();
  HeadAtlas.state.set({ pins: [%d] });
  const wait = () => {
    const there = document.querySelector('#pinned .head h2')?.textContent.includes('%s');
    const items = document.querySelector('#helps .item, #hurts .item');
    if (there && items) done(performance.now() - start);
    else requestAnimationFrame(wait);
  };
  wait();
})"""


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def worked(tab: Tab) -> float:
    """Milliseconds of processor time of the page's main thread so far; other work on the machine does not add to it."""
    metrics = {metric["name"]: metric["value"] for metric in tab.call("Performance.getMetrics")["metrics"]}
    return 1000 * metrics["TaskDuration"]


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def main(layers: int = 32, heads: int = 32, tasks: int = 8, items: int = 64, words: int = 80) -> None:
    names = tuple(f"task_{number}" for number in range(tasks))
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        page = write_sample(Path(place), layers=layers, heads=heads, tasks=names, count=items, words=words)
        made = time.perf_counter() - start
        data = page.parent / "data"
        parts = {name: size(data / name) / MB for name in ("maps", "heads", "items")}
        head = size(data / "heads") / (layers * heads) / 1000
        print(f"{layers} layers x {heads} heads, {tasks} tasks, {items} items of {words} words, 2 methods")
        said = ", ".join(f"{name} {part:.1f}" for name, part in parts.items())
        print(f"made in {made:.1f} s; all {size(page.parent) / MB:.1f} MB: {said}")
        with Browser() as browser:
            drawn, paint, work = [], [], []
            for _ in range(OPENINGS):
                tab = Tab(browser)
                tab.call("Performance.enable", timeDomain="threadTicks")
                tab.open(page.as_uri())
                drawn.append(tab.until("performance.getEntriesByName('drawn').at(-1)?.startTime"))
                paint.append(tab.until("performance.getEntriesByName('first-contentful-paint').at(-1)?.startTime"))
                work.append(worked(tab))
            loaded = {
                Path(address.removeprefix("file://")) for address in tab.requests() if address.startswith("file:")
            }
            first = sum(file.stat().st_size for file in loaded if file.is_file()) / MB
            print(f"first paint {median(paint):.0f} ms, panels drawn {median(drawn):.0f} ms (medians of {OPENINGS}),")
            print(f"{median(work):.0f} ms of processor time, {first:.2f} MB")
            pins, before = [], worked(tab)
            for number in range(PINS):
                layer, column = (number * 7) % layers, (number * 5) % heads
                pins.append(tab.run(PIN % (layer * heads + column, f"ayer {layer}, head {column}")))
            later = sorted(pins[1:])
            print(
                f"a head of {head:.0f} KB: first {pins[0]:.0f} ms, then {median(later):.0f} ms, {later[-1]:.0f} at most"
            )
            print(f"{(worked(tab) - before) / PINS:.0f} ms of processor time each")
            assert tab.troubles() == []


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
