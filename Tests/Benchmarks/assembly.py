#!/usr/bin/env python3
"""Reads the hot functions' machine code: none may count references, check exclusivity, allocate, dispatch
dynamically or call through a pointer.

    python3 Tests/Benchmarks/assembly.py PROGRAM        checks the functions of hot-functions.txt in a release build
    python3 Tests/Benchmarks/assembly.py PROGRAM --calls NAME   shows what a function calls

What the program runs proves that packets cost none of that on the paths that are driven; this reads the branches that they
do not take. Of a generic function what is compiled for the program's types is read; nothing hot may call the one for all types,
which dispatches dynamically. A function that the program does not have (renamed, or inlined away) fails: the list must say what there is.
The last line counts.
"""
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))

# Callees that a hot function must not have, as the symbol table or the demangler has them.
FORBIDDEN = [
    ("counts references", re.compile(r"^swift_(retain|release|bridgeObject|unknownObject|isUniquely|setDeallocating)|"
                                     r"^outlined (copy|consume|retain|release|destroy|init with copy|assign)")),
    ("checks exclusivity", re.compile(r"^swift_(beginAccess|endAccess)")),
    ("allocates", re.compile(r"^swift_(alloc|slowAlloc|initStackObject|box|task_alloc)|^(m|c|re)alloc\b|^posix_memalign|"
                             r"_allocateUninitializedArray|^swift_coro_alloc")),
    ("dispatches dynamically", re.compile(r"^dispatch thunk of|^swift_(dynamicCast|getGenericMetadata|"
                                          r"conformsToProtocol|getAssociated)|^__swift_(project_boxed|allocate_boxed)")),
    ("calls through a pointer", re.compile(r"^a call through a pointer$")),
]

HEAD = re.compile(r"^([0-9a-f]+) <(.+)>:$")
PLACE = re.compile(r"^ *([0-9a-f]+):\s")
CALL = re.compile(r"\s(?:call|jmp|bl|b)\s+[0-9a-f]+ <([^>+]+)>")
# Witnesses, class methods, closures; not what the linker knows by its place beside the code.
INDIRECT = re.compile(r"\s(?:call\s+\*(?!0x[0-9a-f]+\(%rip\))|blr\s)")


def read_list(path):
    """The names of the list, and for each the kinds of callee that are allowed there, with the reason in the line."""
    names = {}
    for number, line in enumerate(open(path), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, _, exception = (part.strip() for part in line.partition(" -- "))
        allowed, _, reason = exception.partition(": ")
        if exception and (allowed not in [kind for kind, _ in FORBIDDEN] or not reason):
            sys.exit("%s:%d: after -- comes a kind of callee and, behind a colon, the reason" % (path, number))
        names[name] = allowed
    return names


def demangled(symbols):
    """Swift's symbols as a reader writes them; every other symbol as it is."""
    def run(*options):
        text = "\n".join(symbols) + "\n"
        done = subprocess.run(("swift-demangle", "--compact") + options, input=text, text=True, capture_output=True)
        if done.returncode:
            sys.exit("swift-demangle: %s" % done.stderr.strip())
        return dict(zip(symbols, done.stdout.split("\n")))
    return run("--simplified"), run()


def calls(program):
    """For each symbol of the program the symbols that it calls or jumps to. What lies behind its end, up to the next symbol,
    are functions without a name."""
    sizes = {}
    for line in subprocess.run(["nm", "-S", program], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines():
        fields = line.split()
        if len(fields) == 4:
            start, size = int(fields[0], 16), int(fields[1], 16)
            sizes[start] = max(size, sizes.get(start, 0))
    process = subprocess.Popen(["objdump", "-d", "--no-show-raw-insn", "-j", ".text", program], stdout=subprocess.PIPE,
                               text=True, errors="replace")
    table, current, end = {}, None, 0
    for line in process.stdout:
        if line.endswith(">:\n"):
            match = HEAD.match(line)
            current = match and table.setdefault(match[2], set())
            if match:
                start = int(match[1], 16)
                end = start + sizes.get(start, 1 << 32)
        elif current is not None and (match := PLACE.match(line)) and int(match[1], 16) < end:
            match = CALL.search(line)
            if match:
                current.add(match[1].removesuffix("@plt"))
            elif INDIRECT.search(line):
                current.add("a call through a pointer")
    if process.wait():
        sys.exit("objdump could not read %s" % program)
    return table


def base(simplified, full):
    """A function's name without what the compiler did to it: specialisations and outlined parts belong to it."""
    name = re.sub(r"^(specialized |merged |function signature specialization <.*?> of )+", "", simplified)
    return None if " in closure " in full or name.startswith(("closure ", "default argument", "outlined ")) else name


def forAllTypes(functions, full):
    """Takes generic functions for all types out of those that are also compiled for one type.
    - Returns: their symbols."""
    unspecialised = set()
    for name, symbols in functions.items():
        special = [symbol for symbol in symbols if full[symbol].startswith("generic specialization")]
        if special:
            unspecialised |= set(symbols) - set(special)
            functions[name] = special
    return unspecialised


def main():
    if len(sys.argv) not in (2, 4) or (len(sys.argv) == 4 and sys.argv[2] != "--calls"):
        sys.exit(__doc__)
    program = sys.argv[1]
    table = calls(program)
    symbols = sorted(set(table) | {callee for callees in table.values() for callee in callees})
    simplified, full = demangled(symbols)
    functions = {}
    for symbol in table:
        if symbol.startswith("$s"):
            name = base(simplified[symbol], full[symbol])
            if name:
                functions.setdefault(name, []).append(symbol)
    unspecialised = forAllTypes(functions, full)
    if len(sys.argv) == 4:
        for symbol in functions.get(sys.argv[3], []):
            print(full[symbol])
            for callee in sorted(table[symbol]):
                print("    " + full[callee])
        return
    passed = failed = 0
    for name, allowed in read_list(os.path.join(HERE, "hot-functions.txt")).items():
        wrong = []
        if name not in functions:
            wrong.append("the program has no such function")
        for symbol in functions.get(name, []):
            for callee in sorted(table[symbol]):
                if callee in unspecialised:
                    wrong.append("calls what is compiled for all types: %s" % full[callee])
                for kind, pattern in FORBIDDEN:
                    if kind != allowed and pattern.search(full[callee]):
                        wrong.append("%s: %s" % (kind, full[callee]))
        if wrong:
            failed += 1
            print("FAILED %s" % name)
            for line in sorted(set(wrong)):
                print("    " + line)
        else:
            passed += 1
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
