"""The work `curve`: how long a first copy and a repeat take with the number of
messages, as numbers and as a picture (docs/copy-time.svg)."""

import math
import shutil
import statistics

from copy_works import ROUNDS, TOP, Copier, Legacy, measure, say

COUNTS = (1000, 3000, 10_000, 30_000, 100_000)
BYTES_A_MESSAGE = 600  # at this size the messages count, not the bytes
TOOLS = ("mailhaul", "mbsync", "dsync")
COLOURS = {"mailhaul": "#0b6e4f", "mbsync": "#c05746", "dsync": "#6b6ecf"}
WIDTH, HEIGHT, EDGE = 640, 400, 60


def work():
    """{tool: {"first 1000": seconds, "repeat 1000": ...}}, medians."""
    seen = {tool: {} for tool in TOOLS}
    for count in COUNTS:
        legacy = Legacy()
        try:
            legacy.fill("alice", count, count * BYTES_A_MESSAGE, ("",))
            for tool in TOOLS:
                copier = Copier(tool, legacy, "alice")
                first, repeat = [], []
                for _ in range(ROUNDS):
                    copier.clear()
                    first.append(measure(copier.argv("initial"))["wall_s"])
                    measure(copier.argv("delta"))
                    repeat.append(measure(copier.argv("delta"))["wall_s"])
                seen[tool][f"first {count}"] = statistics.median(first)
                seen[tool][f"repeat {count}"] = statistics.median(repeat)
                say(f"  {count} {tool:9} first {statistics.median(first):.3f} s"
                    f" repeat {statistics.median(repeat):.3f} s")
        finally:
            legacy.down()
            shutil.rmtree(legacy.dir, ignore_errors=True)
    (TOP / "docs" / "copy-time.svg").write_text(picture(seen))
    return {tool: {"wall_s": row[f"first {COUNTS[-1]}"], **row}
            for tool, row in seen.items()}


def picture(seen):
    """Both axes in powers of ten: a straight line at 45 degrees is a time that
    grows as the mailbox does, a flat one does not grow at all."""
    times = [t for row in seen.values() for t in row.values()]
    low = math.floor(math.log10(min(times)))
    high = math.ceil(math.log10(max(times)))

    def x(count):
        part = math.log10(count / COUNTS[0]) / math.log10(COUNTS[-1] / COUNTS[0])
        return EDGE + part * (WIDTH - 2 * EDGE - 60)

    def y(seconds):
        part = (math.log10(seconds) - low) / (high - low)
        return HEIGHT - EDGE - part * (HEIGHT - 2 * EDGE)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} '
           f'{HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{EDGE}" y="24" font-size="14">Seconds to copy one folder '
           'of small messages: first (solid), nothing new (dashed)</text>']
    for power in range(low, high + 1):
        at = y(10 ** power)
        out.append(f'<line x1="{EDGE}" x2="{x(COUNTS[-1]):.0f}" y1="{at:.1f}" '
                   f'y2="{at:.1f}" stroke="#ddd"/><text x="{EDGE - 8}" '
                   f'y="{at + 4:.1f}" text-anchor="end">{10 ** power:g}</text>')
    for count in COUNTS:
        out.append(f'<text x="{x(count):.1f}" y="{HEIGHT - EDGE + 20}" '
                   f'text-anchor="middle">{count:,}</text>')
    for tool, row in seen.items():
        for kind, dash in (("first", ""), ("repeat", ' stroke-dasharray="5 4"')):
            points = " ".join(f"{x(c):.1f},{y(row[f'{kind} {c}']):.1f}"
                              for c in COUNTS)
            out.append(f'<polyline points="{points}" fill="none" stroke-width='
                       f'"2" stroke="{COLOURS[tool]}"{dash}/>')
            last = row[f"{kind} {COUNTS[-1]}"]
            out.append(f'<text x="{x(COUNTS[-1]) + 6:.1f}" y="{y(last) + 4:.1f}"'
                       f' fill="{COLOURS[tool]}">{tool} {last:.2f} s</text>')
    return "\n".join(out + ["</svg>", ""])
