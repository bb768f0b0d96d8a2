#!/usr/bin/env python3
"""The TOML 1.0.0 cases of toml-lang/toml-test against a decoder: `suite.py [--only GLOB] [--plain] -- DECODER [ARG...]`.

The decoder reads TOML on standard input; a valid document it answers with tagged JSON and exit 0, an invalid one with a
message on standard error and an exit code from 1 to 127. A crash or no answer within two seconds fails either way.
Unless `--plain`, cases that are not about line ends or the first and last line run in variants too: CRLF line ends, no
final newline, a comment in front. The last line is `N passed, N failed`. SOURCE and LICENSE are those of the cases.
"""
import argparse
import concurrent.futures
import datetime
import fnmatch
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ABOUT_THE_EDGES = ("newline", "crlf", "lf", "control", "encoding", "bom", "comment", "spec-")
STAMP = re.compile(r"(?:(\d{4}-\d\d-\d\d))?T?(?:(\d\d:\d\d):(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:\d\d)?")


def moment(text):
    """A date, time or both as something comparable: the offset applied, the fraction to nine digits, a leap second kept."""
    match = STAMP.fullmatch(text.upper().replace(" ", "T"))
    if not match:
        raise ValueError("%r is no date or time" % text)
    day, clock, second, fraction, offset = match.groups()
    if day and clock and offset:
        base = datetime.datetime.fromisoformat("%sT%s:00%s" % (day, clock, offset.replace("Z", "+00:00")))
        day, clock = "UTC", base.timestamp()
    return day, clock, second, ((fraction or "") + "0" * 9)[:9]


def number(text):
    text = text.lower()
    return "nan" if text.endswith("nan") else float(text)


READ = {"float": number, "bool": str.lower, "datetime": moment, "datetime-local": moment, "date-local": moment,
        "time-local": moment}


def difference(want, have, place="document"):
    """The first difference in words, or None."""
    if isinstance(want, list):
        if not isinstance(have, list) or len(want) != len(have):
            return "%s: want an array of %d" % (place, len(want))
        pairs = [(w, h, "%s[%d]" % (place, i)) for i, (w, h) in enumerate(zip(want, have))]
    elif not isinstance(have, dict):
        return "%s: want a table or value" % place
    elif set(want) == {"type", "value"}:
        if have.get("type") != want["type"] or not isinstance(have.get("value"), str):
            return "%s: want the type %s, got %s" % (place, want["type"], have.get("type"))
        read = READ.get(want["type"], str)
        try:
            same = read(want["value"]) == read(have["value"])
        except ValueError as error:
            return "%s: %s" % (place, error)
        return None if same else "%s: want %r, got %r" % (place, want["value"], have["value"])
    elif set(want) != set(have):
        return "%s: want the keys %s, got %s" % (place, sorted(want), sorted(have))
    else:
        pairs = [(want[key], have[key], "%s.%s" % (place, key)) for key in want]
    return next((d for w, h, p in pairs if (d := difference(w, h, p))), None)


def verdict(decoder, text, want):
    """None when the decoder did right, else why not."""
    try:
        done = subprocess.run(decoder, input=text, capture_output=True, timeout=2)
    except subprocess.TimeoutExpired:
        return "no answer within 2 s"
    said = done.stderr.decode("utf-8", "replace").strip()
    if not 0 <= done.returncode < 128:
        return "crashed (exit %d): %s" % (done.returncode, said[-200:])
    if want is None:
        return None if done.returncode and said else "accepted" if not done.returncode else "refused without a message"
    if done.returncode:
        return "refused: " + said[:200]
    try:
        return difference(want, json.loads(done.stdout.decode("utf-8")))
    except ValueError as error:
        return "the answer is not JSON: %s" % error


def variants(name, text, valid):
    yield "", text
    if any(word in name for word in ABOUT_THE_EDGES):
        return
    if text.endswith(b"\n") and (valid or not text.endswith((b"'\n", b'"\n', b"\\\n"))):
        yield " (no final newline)", text[:-1]
    if valid:
        if not any(mark in text for mark in (b"\r", b'"""', b"'''")):
            yield " (CRLF)", text.replace(b"\n", b"\r\n")
        yield " (leading comment)", b"# comment\n" + text


def jobs(pattern, plain):
    with open(os.path.join(HERE, "files-toml-1.0.0")) as f:
        names = [line.strip()[:-5] for line in f if line.strip().endswith(".toml")]
    for name in names:
        if not fnmatch.fnmatch(name, pattern):
            continue
        with open(os.path.join(HERE, name + ".toml"), "rb") as f:
            text = f.read()
        want = None
        if name.startswith("valid/"):
            with open(os.path.join(HERE, name + ".json"), encoding="utf-8") as f:
                want = json.load(f)
        for ending, changed in variants(name, text, want is not None):
            if not (plain and ending):
                yield name + ending, changed, want


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", metavar="GLOB", help="cases by name, e.g. 'invalid/key/*'")
    parser.add_argument("--plain", action="store_true", help="no variants")
    parser.add_argument("decoder", nargs="+")
    arguments = parser.parse_args()
    failed, cases = 0, list(jobs(arguments.only, arguments.plain))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for case, why in zip(cases, pool.map(lambda j: verdict(arguments.decoder, j[1], j[2]), cases)):
            if why:
                failed += 1
                print("FAILED %s %s" % (case[0], why))
    print("%d passed, %d failed" % (len(cases) - failed, failed))
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
