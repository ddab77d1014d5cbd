"""Medians, ratios, bars, and a plot of them."""

import collections
import statistics

# What is held against a bar: ours, Kafka's, the ratio, the bar, whether less is better, and the best that
# any broker could reach with this client on this machine, where that was measured: the ceiling, the floor or
# the relay.
Bar = collections.namedtuple("Bar", "figure ours reference ratio bar less best")
BROKERS = ("flumen", "kafka", "ceiling", "floor", "relay")
GAP, HEIGHT, LEFT, WIDTH = 6, 18, 430, 420


class Results:
    """Figures by row and broker, a list of what each round gave."""

    def __init__(self, rows):
        self.rows = rows

    def note(self, row, broker, figures):
        for figure, value in figures.items():
            cell = self.rows.setdefault(row, {}).setdefault(broker, {})
            cell.setdefault(figure, []).append(value)

    def forget(self, row):
        self.rows.pop(row, None)

    def of(self, row, broker, figure):
        values = self.rows.get(row, {}).get(broker, {}).get(figure)
        return statistics.median(values) if values else None


def bars(results):
    """Each figure that has a bar; where the bar is absolute, there is no reference."""
    found = []

    def ratio(what, ours, theirs, bar, less=False, best=None):
        ours, theirs = results.of(*ours), results.of(*theirs)
        best = best and results.of(*best)
        if ours is not None and theirs:
            found.append(Bar(what, ours, theirs, ours / theirs, bar, less, best))

    def most(what, ours, bar):
        value = results.of(*ours)
        if value is not None:
            found.append(Bar(what, value, None, value, bar, True, None))

    for size, name in ((100, "100 B"), (1024, "1 KiB")):
        for shape, label in (("1x1", "1 × 1"), ("16x4", "16 × 4")):
            row, what = f"produce-{size}-{shape}-unsynced", f"produce {name}, {label}, both unsynced"
            bar = 1.5 if size == 100 else 4 if shape == "1x1" else 3
            ratio(what + ", MB/s", (row, "flumen", "mb_per_s"), (row, "kafka", "mb_per_s"), bar,
                  best=(row, "ceiling", "mb_per_s"))
            if size == 100:
                ratio(what + ", of the client's ceiling", (row, "flumen", "mb_per_s"),
                      (row, "ceiling", "mb_per_s"), 0.9)
        unsynced, synced = f"produce-{size}-1x1-unsynced", f"produce-{size}-1x1-synced"
        small = size == 100
        best = (unsynced, "ceiling", "mb_per_s")
        ratio(f"produce {name}, ours synced, Kafka unsynced, MB/s", (synced, "flumen", "mb_per_s"),
              (unsynced, "kafka", "mb_per_s"), 1.3 if small else 3, best=best)
        ratio(f"produce {name}, both synced, MB/s", (synced, "flumen", "mb_per_s"),
              (synced, "kafka", "mb_per_s"), 4 if small else 12, best=best)
    for setting, bar in (("unsynced", 1 / 8), ("synced", 1 / 10)):
        row = f"produce-1024-1x1-{setting}"
        ratio(f"broker's CPU, produce 1 KiB, {setting}, ms/MB", (row, "flumen", "cpu_ms_per_mb"),
              (row, "kafka", "cpu_ms_per_mb"), bar, True,
              ("produce-1024-1x1-unsynced", "floor", "cpu_ms_per_mb"))
    for size, name, bar in ((100, "100 B", 1), (1024, "1 KiB", 2)):
        row = f"consume-{size}"
        ratio(f"consume {name}, MB/s", (row, "flumen", "mb_per_s"), (row, "kafka", "mb_per_s"), bar,
              best=(row, "ceiling", "mb_per_s"))
    ratio("broker's CPU, consume 1 KiB, ms/MB", ("consume-1024", "flumen", "cpu_ms_per_mb"),
          ("consume-1024", "kafka", "cpu_ms_per_mb"), 0.8, True)
    for setting in ("unsynced", "synced"):
        for figure in ("p50_us", "p99_us"):
            row = f"latency-1000-{setting}"
            ratio(f"due → received, 1 k/s, {setting}, {figure[:3]}, µs", (row, "flumen", figure),
                  (row, "kafka", figure), 0.5, True, best=("latency-1000-unsynced", "relay", figure))
    most("due → received, 20 k/s, synced, p99, µs", ("latency-20000-synced", "flumen", "p99_us"), 5000)
    ratio("start → first ack, s", ("startup", "flumen", "s"), ("startup", "kafka", "s"), 1 / 40, True)
    for figure, what in (("memory_mb", "idle memory, MB"), ("cpu_percent", "idle CPU, % of a core")):
        ratio(what, ("idle", "flumen", figure), ("idle", "kafka", figure), 1 / 20, True)
    most("an idle connection, KiB", ("idle", "flumen", "connection_kib"), 4)
    most("an idle partition, KiB", ("idle", "flumen", "partition_kib"), 6)
    most("1,000 partitions made, each with an append, s", ("thousand", "flumen", "s"), 1)
    most("kill −9 with 2 GiB → first ack, s", ("crash", "flumen", "s"), 0.3)
    return found


def is_met(bar):
    return bar.ratio <= bar.bar if bar.less else bar.ratio >= bar.bar


def number(value):
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(found):
    """The bars as a table of Markdown."""
    lines = ["| figure | ours | Kafka, or ceiling | ratio | bar | | best possible | of Kafka's |",
             "|---|---|---|---|---|---|---|---|"]
    for bar in found:
        relation = "≤" if bar.less else "≥"
        shown = "" if bar.reference is None else number(bar.ratio)
        best = number(bar.best and bar.best / bar.reference)
        lines.append(f"| {bar.figure} | {number(bar.ours)} | {number(bar.reference)} | {shown} | {relation} "
                     f"{number(bar.bar)} | {'met' if is_met(bar) else 'missed'} | {number(bar.best)} | {best} |")
    return "\n".join(lines)


def every(results):
    """Every median as a table of Markdown."""
    lines = ["| row | figure | ours | Kafka | ceiling | floor | relay |", "|---|---|---|---|---|---|---|"]
    for row in sorted(results.rows):
        figures = sorted({f for cell in results.rows[row].values() for f in cell})
        for figure in figures:
            cells = [number(results.of(row, b, figure)) for b in BROKERS]
            lines.append(f"| {row} | {figure} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(found, about):
    """How far each figure is from its bar: a bar of the length of the line is just met."""
    height = 60 + len(found) * (HEIGHT + GAP)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 90}" height="{height}" '
           'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="10" y="20">Against its bar: right of the line is better. {about}</text>']
    middle = LEFT + WIDTH / 2
    for place, bar in enumerate(found):
        better = bar.bar / bar.ratio if bar.less and bar.ratio > 0 else bar.ratio / bar.bar
        length = min(max(better, 0.02), 2) * WIDTH / 2
        y, colour = 40 + place * (HEIGHT + GAP), "#2a7" if is_met(bar) else "#c33"
        out.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{bar.figure}</text>')
        out.append(f'<rect x="{LEFT}" y="{y}" width="{length:.0f}" height="{HEIGHT}" fill="{colour}"/>')
        out.append(f'<text x="{LEFT + length + 4:.0f}" y="{y + 13}">{better:.2f}×</text>')
    out.append(f'<line x1="{middle}" y1="34" x2="{middle}" y2="{height - 14}" stroke="black"/></svg>')
    return "\n".join(out)
