"""Line charts as SVG, several on a page, which follow the reader's light or dark scheme and need no fonts or scripts."""
import math
from dataclasses import dataclass, field

WIDTH, PANEL_HEIGHT = 560, 360
LEFT, RIGHT, BOTTOM = 66, 20, 48  # margins of the axes within a panel
TITLE_HEIGHT, LEGEND_LINE = 34, 18
HEADER = 62

# Of lines, on light and on dark; each set is distinguishable with the common kinds of colour blindness (after Okabe and Ito
# 2008).
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#a3508c", "#8a6d00")
DARK = ("#56b4e9", "#ff8c42", "#2fc79b", "#e08cc8", "#e3b505")


def scheme(page, ink, quiet, grid, colours):
    rules = [f".page{{fill:{page}}} .ink{{fill:{ink}}} .quiet{{fill:{quiet}}}"]
    rules += [f".grid{{stroke:{grid}}} .axis{{stroke:{quiet}}}"]
    rules += [f".line.c{i},.bar.c{i}{{stroke:{c}}} .dot.c{i}{{fill:{c}}}" for i, c in enumerate(colours)]
    return "\n".join(rules)


STYLE = f"""
text{{font-family:system-ui,sans-serif;font-size:12px}} .line{{fill:none;stroke-width:2}}
{scheme("#ffffff", "#1f2328", "#59636e", "#d9dee3", LIGHT)}
@media (prefers-color-scheme: dark) {{
{scheme("#0d1117", "#e6edf3", "#9198a1", "#2a313c", DARK)}
}}
"""
DASHES = {"solid": "", "dashed": "7 4", "dotted": "2 4"}


@dataclass
class Line:
    name: str
    points: list  # (x, y) or (x, y, low, high), by ascending x
    colour: int = 0
    dash: str = "solid"  # measured; "dashed": somebody else's; "dotted": a bound


@dataclass
class Panel:
    title: str
    x_label: str
    y_label: str
    lines: list = field(default_factory=list)
    percent: bool = False
    log_y: bool = False


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def tick_step(most):
    """1, 2 or 5 times a power of ten, for 4 to 10 steps from 0 to most."""
    power = 10 ** math.floor(math.log10(most / 4))
    return next(factor * power for factor in (5, 2, 1) if most / (factor * power) >= 4)


def tick_text(value, percent):
    if percent:
        return f"{value:.0%}"
    if value >= 1000 and value % 1000 == 0:
        return f"{value / 1000:g}k"
    return f"{value:g}"


class Axes:
    """Where a panel's values lie on the page. x is logarithmic, every x that occurs is a tick; y begins at 0 or is
    logarithmic too."""

    def __init__(self, panel, x, y, width, height):
        self.left, self.right, self.top, self.bottom = x + LEFT, x + width - RIGHT, y, y + height - BOTTOM
        self.panel = panel
        self.xs = sorted({point[0] for line in panel.lines for point in line.points})
        values = [value for line in panel.lines for point in line.points for value in point[1:]]
        # A bound far above what was measured leaves the panel (clip) rather than flatten the rest.
        measured = max(v for line in panel.lines if line.dash != "dotted" for p in line.points for v in p[1:])
        self.most = min(max(values), 2.5 * measured)
        if panel.log_y:
            self.low = 10 ** math.floor(math.log10(min(values)))
            self.most = 10 ** math.ceil(math.log10(max(values)))
            self.ticks = [self.low * 10**i for i in range(round(math.log10(self.most / self.low)) + 1)]
        else:
            step = tick_step(self.most)
            self.most = math.ceil(self.most / step - 1e-9) * step
            self.ticks = [step * i for i in range(round(self.most / step) + 1)]

    def x(self, value):
        low, high = math.log2(self.xs[0]), math.log2(self.xs[-1])
        inset = 18  # so that no marker sits on an axis
        share = 0.5 if high == low else (math.log2(value) - low) / (high - low)
        return self.left + inset + share * (self.right - self.left - 2 * inset)

    def y(self, value):
        if self.panel.log_y:
            share = math.log(value / self.low) / math.log(self.most / self.low)
        else:
            share = value / self.most
        return self.bottom - share * (self.bottom - self.top)


class Page:
    def __init__(self):
        self.out = []

    def text(self, x, y, text, anchor="start", style="ink", more=""):
        self.out.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}"{more}>{escape(text)}</text>'
        )

    def stroke(self, x1, y1, x2, y2, style, more=""):
        self.out.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"{more}/>')

    def clip(self, axes):
        """The attribute that keeps a line within its axes."""
        name = f"clip{axes.left:.0f}-{axes.top:.0f}"
        width, height = axes.right - axes.left, axes.bottom - axes.top
        self.out.append(
            f'<clipPath id="{name}"><rect x="{axes.left:.1f}" y="{axes.top:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}"/></clipPath>'
        )
        return f' clip-path="url(#{name})"'

    def axes(self, axes):
        panel = axes.panel
        for i, value in enumerate(axes.ticks):
            self.stroke(axes.left, axes.y(value), axes.right, axes.y(value), "axis" if i == 0 else "grid")
            self.text(axes.left - 8, axes.y(value) + 4, tick_text(value, panel.percent), "end", "quiet")
        self.stroke(axes.left, axes.top, axes.left, axes.bottom, "axis")
        for value in axes.xs:
            self.stroke(axes.x(value), axes.bottom, axes.x(value), axes.bottom + 5, "axis")
            self.text(axes.x(value), axes.bottom + 18, f"{value:g}", "middle", "quiet")
        self.text((axes.left + axes.right) / 2, axes.bottom + 38, panel.x_label, "middle", "quiet")
        x, y = axes.left - 50, (axes.top + axes.bottom) / 2
        self.text(x, y, panel.y_label, "middle", "quiet", f' transform="rotate(-90 {x:.1f} {y:.1f})"')

    def line(self, line, axes):
        dash = f' stroke-dasharray="{DASHES[line.dash]}"' if DASHES[line.dash] else ""
        points = " ".join(f"{axes.x(p[0]):.1f},{axes.y(p[1]):.1f}" for p in line.points)
        clip = self.clip(axes) if line.dash == "dotted" else ""
        self.out.append(f'<polyline class="line c{line.colour}"{dash}{clip} points="{points}"/>')
        if line.dash == "dotted":
            return
        for point in line.points:
            x = axes.x(point[0])
            if len(point) == 4:
                self.stroke(x, axes.y(point[2]), x, axes.y(point[3]), f"bar c{line.colour}")
            self.out.append(f'<circle cx="{x:.1f}" cy="{axes.y(point[1]):.1f}" r="3.5" class="dot c{line.colour}"/>')

    def legend(self, lines, x, y, width):
        """Names side by side, on as many lines as they need; returns their height."""
        at, row = x, 0
        for line in lines:
            needed = 34 + 7 * len(line.name) + 14
            if at > x and at + needed > x + width:
                at, row = x, row + 1
            middle = y + row * LEGEND_LINE
            dash = f' stroke-dasharray="{DASHES[line.dash]}"' if DASHES[line.dash] else ""
            self.stroke(at, middle - 4, at + 26, middle - 4, f"line c{line.colour}", dash)
            self.text(at + 34, middle, line.name)
            at += needed
        return (row + 1) * LEGEND_LINE

    def panel(self, panel, x, y):
        self.text(x + 16, y + 20, panel.title, more=' font-weight="600" style="font-size: 14px"')
        height = self.legend(panel.lines, x + 16, y + TITLE_HEIGHT + 8, WIDTH - 32)
        top = y + TITLE_HEIGHT + height + 8
        axes = Axes(panel, x, top, WIDTH, y + PANEL_HEIGHT - top)
        self.axes(axes)
        for line in panel.lines:
            self.line(line, axes)


def page(title, subtitle, panels, columns=2):
    """The SVG. Panels without a line are left out; at least one has some."""
    panels = [panel for panel in panels if any(line.points for line in panel.lines)]
    for panel in panels:
        panel.lines = [line for line in panel.lines if line.points]
    columns = min(columns, len(panels))
    width = WIDTH * columns
    height = HEADER + PANEL_HEIGHT * math.ceil(len(panels) / columns) + 8
    drawn = Page()
    drawn.text(16, 28, title, more=' font-weight="600" style="font-size: 17px"')
    drawn.text(16, 48, subtitle, style="quiet")
    for i, panel in enumerate(panels):
        drawn.panel(panel, WIDTH * (i % columns), HEADER + PANEL_HEIGHT * (i // columns))
    body = "\n".join(drawn.out)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{escape(title)}">\n<style>{STYLE}</style>\n'
        f'<rect class="page" width="{width}" height="{height}"/>\n{body}\n</svg>\n'
    )
