"""A result as a table for the terminal, as Markdown, and as a picture. Pure: a document in, text out.

A document is what `--json` writes: "measures" describes each column, "forwarders" each row with its values, one for each
repeat, and "machine" and "method" say where the figures come from. Medians are shown; a ratio to the kernel is the median
of the ratios within each repeat, since a machine's mood changes between repeats more than within one.
"""
import statistics
from xml.sax.saxutils import escape

NOTHING = "–"


def median(row, key):
    values = [v for v in row["values"].get(key, []) if v is not None]
    return statistics.median(values) if values else None


def ratio(row, reference, key):
    """How often the reference's value it is; None when either is missing."""
    pairs = zip(row["values"].get(key, []), reference["values"].get(key, []) if reference else [])
    ratios = [a / b for a, b in pairs if a is not None and b]
    return statistics.median(ratios) if ratios else None


def number(value, places):
    return "%.*f" % (places, value)


def cells(document):
    """Rows of text: the head, then one for each forwarder."""
    kernel = next((r for r in document["forwarders"] if r["name"] == "kernel"), None)
    rows = [[""] + ["%s, %s" % (m["title"], m["unit"]) for m in document["measures"]]]
    for row in document["forwarders"]:
        line = [label(row)]
        for m in document["measures"]:
            value, share = median(row, m["key"]), ratio(row, kernel, m["key"])
            if value is None:
                line.append(NOTHING)
            elif share is None or row is kernel:
                line.append(number(value, m["places"]))
            else:
                line.append("%s (×%.2f)" % (number(value, m["places"]), share))
        rows.append(line)
    return rows


def label(row):
    return "%s %s" % (row["title"], row["version"]) if row.get("version") else row["title"]


def origin(document):
    """Where the figures come from, in two sentences."""
    machine, method = document["machine"], document["method"]
    return ("%s, %d cores, Linux %s. Client, forwarder and server share the machine, each in a network namespace; "
            "congestion control %s; medians of %d runs of %g s each%s." % (
                machine["processor"], machine["cores"], machine["kernel"], method["congestion_control"], method["repeats"],
                method["seconds"], "; ×: within a run, of the kernel's" if has_kernel(document) else ""))


def has_kernel(document):
    return any(row["name"] == "kernel" for row in document["forwarders"])


def turned(rows):
    return [list(column) for column in zip(*rows)]


def table(document):
    """For the terminal: measures down, forwarders across."""
    rows = turned(cells(document))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]).rstrip() for row in rows]
    notes = ["%s: %s: %s" % (row["title"], key, why) for row in document["forwarders"]
             for key, why in sorted(row.get("failed", {}).items())]
    return "\n".join(lines + [""] + notes + [origin(document)]) + "\n"


def markdown(document):
    rows = turned(cells(document))
    lines = ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows]
    lines.insert(1, "|---|" + "---:|" * (len(rows[0]) - 1))
    return "\n".join(lines + ["", origin(document)]) + "\n"


# The picture: a panel for each measure in two columns, a bar for each forwarder.

WIDTH, MARGIN, GUTTER = 860, 20, 40
PANEL = (WIDTH - 2 * MARGIN - GUTTER) // 2
NAME, FIGURE = 96, 64                       # left of a bar, right of the longest one
ROW, BAR, HEAD, GAP = 20, 13, 24, 22
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; fill: #24292f }
.head { font-weight: 600 }
.unit, .note { fill: #57606a }
.note { font-size: 12px }
.bar { fill: #afb8c1 }
.ours { fill: #0969da }
.axis { stroke: #d0d7de }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.unit, .note { fill: #9198a1 }
.bar { fill: #59636e }
.ours { fill: #4493f8 }
.axis { stroke: #3d444d }
}
"""


def text(x, y, words, kind="", anchor=""):
    return '<text x="%g" y="%g"%s%s>%s</text>' % (
        x, y, ' class="%s"' % kind if kind else "", ' text-anchor="%s"' % anchor if anchor else "", escape(words))


def panel(document, measure, left, top):
    """One measure's bars, all to the scale of the longest."""
    direction = "" if measure["better"] == "more" else ", less is better"
    parts = ['<text x="%g" y="%g"><tspan class="head">%s</tspan> <tspan class="unit">%s</tspan></text>' % (
        left, top + 14, escape(measure["title"]), escape(measure["unit"] + direction))]
    values = [median(row, measure["key"]) for row in document["forwarders"]]
    longest = max((v for v in values if v), default=1)
    start = left + NAME
    for index, (row, value) in enumerate(zip(document["forwarders"], values)):
        y = top + HEAD + index * ROW
        ours = row["name"] == "portferry"
        parts.append(text(start - 8, y + BAR - 2, row["title"].split(" ")[0], "head" if ours else "", "end"))
        if value is None:
            parts.append(text(start + 6, y + BAR - 2, NOTHING, "unit"))
            continue
        length = max(1, (PANEL - NAME - FIGURE) * value / longest)
        parts.append('<rect x="%g" y="%g" width="%.1f" height="%d" rx="2" class="bar%s"/>' % (
            start, y, length, BAR, " ours" if ours else ""))
        parts.append(text(round(start + length + 6, 1), y + BAR - 2, number(value, measure["places"]), "head" if ours else ""))
    bottom = top + HEAD + len(values) * ROW - (ROW - BAR)
    parts.append('<path class="axis" d="M%g %gV%g"/>' % (start - 0.5, top + HEAD - 3, bottom + 3))
    return "\n".join(parts)


def wrapped(words, width):
    lines = [""]
    for word in words.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = (lines[-1] + " " + word).strip()
    return lines


def chart(document):
    """An SVG document that follows the reader's light or dark scheme."""
    height = HEAD + len(document["forwarders"]) * ROW + GAP
    measures = document["measures"]
    rows = (len(measures) + 1) // 2
    parts = []
    for index, measure in enumerate(measures):
        left = MARGIN + (index % 2) * (PANEL + GUTTER)
        parts.append(panel(document, measure, left, MARGIN + index // 2 * height))
    y = MARGIN + rows * height + 6
    for line in wrapped(origin(document).replace("; ×: within a run, of the kernel's", ""), 120):
        parts.append(text(MARGIN, y, line, "note"))
        y += 17
    summary = "; ".join("%s: %s" % (m["title"], ", ".join(
        "%s %s" % (r["title"], number(median(r, m["key"]), m["places"])) for r in document["forwarders"]
        if median(r, m["key"]) is not None)) + " " + m["unit"] for m in measures)
    return ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" '
            'aria-labelledby="t d">\n<title id="t">Portferry beside other forwarders</title>\n<desc id="d">%s</desc>\n'
            '<style>%s</style>\n%s\n</svg>\n' % (WIDTH, y, WIDTH, y, escape(summary), STYLE, "\n".join(parts)))
