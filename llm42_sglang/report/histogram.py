"""A histogram as inline SVG. Colours and fonts are the page's, by way of CSS classes."""

from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 360, 150  # units of the view box; a phone shows about one a pixel
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, 8, 10, 34
_BINS = 16


def histogram(values: Sequence[int], most: int, label: str) -> Markup:
    """Counts of values in [0, most); `label` stands below the axis."""
    width = max(1, -(-most // _BINS))  # whole numbers to a bin
    counts = [0] * max(1, -(-most // width))
    for value in values:
        counts[min(value // width, len(counts) - 1)] += 1
    tallest = max(max(counts), 1)
    step = (WIDTH - _LEFT - _RIGHT) / len(counts)
    floor = HEIGHT - _BOTTOM
    bars = Markup("").join(
        _bar(_LEFT + i * step, step, floor, count / tallest * (floor - _TOP), count, i * width)
        for i, count in enumerate(counts)
        if count
    )
    ticks = Markup("").join(
        _text(_LEFT + i * step, floor + 13, str(i * width), "middle")
        for i in range(0, len(counts) + 1, max(1, len(counts) // 4))
    )
    return Markup(
        '<svg class="histogram" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        '<line class="axis" x1="{}" y1="{}" x2="{}" y2="{}"/>{}{}{}{}{}</svg>'
    ).format(
        *(WIDTH, HEIGHT, label, _LEFT, floor, WIDTH - _RIGHT, floor),
        *(bars, ticks),
        _text(_LEFT - 6, _TOP + 8, str(tallest), "end"),
        _text(_LEFT - 6, floor, "0", "end"),
        _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 5, label, "middle"),
    )


def _bar(x: float, step: float, floor: float, height: float, count: int, start: int) -> Markup:
    return Markup(
        '<rect class="bin" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
        "<title>{} from {}</title></rect>"
    ).format(x + 1, floor - height, max(step - 2, 1), height, count, start)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, y, anchor, text
    )
