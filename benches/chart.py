"""Draws the chart of the README from its table of figures.

    python3 benches/chart.py > docs/performance.svg

The table is the one that `benches/yardsticks.py` measures. The chart shows the CPU seconds of its largest size.
"""
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROW = re.compile(r"^\| *([\d,]*) *\| (.+?) \| ([\d.]+) \| ([\d.]+) \| ([\d,]+) \|$")
LEFT, RIGHT, TOP, HEIGHT, BAR = 190, 760, 62, 34, 20


def rows():
    """Members, tool and CPU seconds, as the table of the README has them."""
    members, found = "", []
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as readme:
        for line in readme:
            row = ROW.match(line.rstrip())
            if row:
                members = row[1] or members
                found.append((int(members.replace(",", "")), row[2].replace("`", ""), row[3]))
    return found


def main():
    all_rows = rows()
    largest = max(members for members, _, _ in all_rows)
    shown = [(tool, seconds) for members, tool, seconds in all_rows if members == largest]
    longest = max(float(seconds) for _, seconds in shown)
    height = TOP + HEIGHT * len(shown) + 16
    words = ", ".join(f"{tool} {seconds} s" for tool, seconds in shown)
    title = f"CPU seconds of a plan of {largest:,} members"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {height}" font-family="system-ui, sans-serif" '
        f'font-size="14" role="img" aria-label="{title}: {words}.">',
        "  <style>",
        "    .ours { fill: #2f5fb3; } .other { fill: #9aa7bf; } text { fill: #1d2637; }",
        "    .title { font-weight: 600; } .name { text-anchor: end; }",
        "  </style>",
        f'  <rect width="860" height="{height}" fill="#ffffff"/>',
        f'  <text class="title" x="20" y="32">{title}, 1% in and 1% out (less is better)</text>',
    ]
    for place, (tool, seconds) in enumerate(shown):
        top = TOP + HEIGHT * place
        width = round((RIGHT - LEFT) * float(seconds) / longest, 1)
        kind = "ours" if tool.startswith("syncline") else "other"
        lines += [
            f'  <text class="name" x="{LEFT - 12}" y="{top + 15}">{tool}</text>',
            f'  <rect class="{kind}" x="{LEFT}" y="{top}" width="{width}" height="{BAR}" rx="2"/>',
            f'  <text x="{LEFT + width + 8}" y="{top + 15}">{seconds} s</text>',
        ]
    print("\n".join([*lines, "</svg>"]))


main()
