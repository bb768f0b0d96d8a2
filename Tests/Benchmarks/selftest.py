"""Whether tables and charts say what a result says: a line for each that does not. Scripts/tidy runs it.

Measures nothing; the results are made up.
"""
import copy
import os
import sys
import xml.etree.ElementTree

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import drawing  # noqa: E402

RESULT = {
    "machine": {"processor": "Model <8> & more", "cores": 2, "kernel": "6.1"},
    "method": {"congestion_control": "cubic", "seconds": 2, "repeats": 3},
    "measures": [
        {"key": "up1", "title": "1 TCP stream up", "unit": "Gbit/s", "better": "more", "places": 1},
        {"key": "latency", "title": "request and response", "unit": "µs", "better": "less", "places": 0},
        {"key": "datagrams", "title": "UDP, 64 octets", "unit": "1000/s", "better": "more", "places": 0},
    ],
    "forwarders": [
        {"name": "portferry", "title": "portferry", "version": "1.2", "failed": {},
         "values": {"up1": [10.0, 20.0, 12.0], "latency": [30.0, 31.0, 90.0], "datagrams": [100, 110, 120]}},
        {"name": "kernel", "title": "kernel (DNAT)", "version": "6.1", "failed": {},
         "values": {"up1": [20.0, 20.0, 20.0], "latency": [15.0, 15.5, 15.0], "datagrams": [200, 200, 200]}},
        {"name": "haproxy", "title": "haproxy", "version": "", "failed": {"datagrams": "forwards no UDP"},
         "values": {"up1": [5.0, None, 7.0], "latency": [20.0, 21.0, 22.0], "datagrams": [None, None, None]}},
    ],
}


def medians_and_ratios():
    rows = drawing.cells(RESULT)
    # 20/20 within the second run is 1, 10/20 and 12/20 are less: the median of the ratios is 0.60.
    assert rows[1] == ["portferry 1.2", "12.0 (×0.60)", "31 (×2.00)", "110 (×0.55)"], rows[1]
    assert rows[2] == ["kernel (DNAT) 6.1", "20.0", "15", "200"], rows[2]
    assert rows[3] == ["haproxy", "6.0 (×0.30)", "21 (×1.35)", "–"], rows[3]


def without_kernel():
    result = copy.deepcopy(RESULT)
    del result["forwarders"][1]
    assert drawing.cells(result)[1][1] == "12.0", drawing.cells(result)[1]
    assert "×" not in drawing.table(result)


def terminal():
    lines = drawing.table(RESULT).splitlines()
    assert len({line.rindex(" ", 0, len(line)) > 0 for line in lines[:4]}) == 1
    assert [line.split("  ")[0] for line in lines[1:4]] == [
        "1 TCP stream up, Gbit/s", "request and response, µs", "UDP, 64 octets, 1000/s"], lines
    assert "haproxy: datagrams: forwards no UDP" in lines, lines


def markdown():
    lines = drawing.markdown(RESULT).splitlines()
    assert lines[0] == "|  | portferry 1.2 | kernel (DNAT) 6.1 | haproxy |", lines[0]
    assert lines[1] == "|---|---:|---:|---:|", lines[1]
    assert lines[4] == "| UDP, 64 octets, 1000/s | 110 (×0.55) | 200 | – |", lines[4]
    assert "2 cores" in lines[-1] and "medians of 3 runs of 2 s" in lines[-1], lines[-1]


def picture():
    root = xml.etree.ElementTree.fromstring(drawing.chart(RESULT))
    space = "{http://www.w3.org/2000/svg}"
    words = ["".join(each.itertext()) for each in root.iter(space + "text")]
    for wanted in ("1 TCP stream up Gbit/s", "request and response µs, less is better", "12.0", "110", "haproxy", "–"):
        assert wanted in words, (wanted, words)
    assert any("Model <8> & more" in each for each in words), words
    bars = [each for each in root.iter(space + "rect")]
    assert len(bars) == 8, len(bars)                # no bar for what was not measured
    ours, kernel, haproxy = (float(each.get("width")) for each in bars[:3])
    assert abs(ours / kernel - 12 / 20) < 0.01 and abs(haproxy / kernel - 6 / 20) < 0.01, (ours, kernel, haproxy)
    assert [("ours" in each.get("class")) for each in bars[:3]] == [True, False, False]
    width, height = float(root.get("width")), float(root.get("height"))
    for each in bars:
        right, bottom = (float(each.get(a)) + float(each.get(b)) for a, b in (("x", "width"), ("y", "height")))
        assert right < width and bottom < height, each.attrib


def nothing_measured():
    result = copy.deepcopy(RESULT)
    for row in result["forwarders"]:
        row["values"] = {}
    for draw in (drawing.table, drawing.markdown, drawing.chart):
        assert "–" in draw(result)


for test in (medians_and_ratios, without_kernel, terminal, markdown, picture, nothing_measured):
    try:
        test()
    except Exception as error:
        print("%s: %s: %s" % (test.__name__, type(error).__name__, str(error)[:150]))
