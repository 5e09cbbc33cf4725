"""Keeps the READMEs true: renews their help blocks, then checks links, Python, make targets and flags.

`--check` compares the help blocks without rewriting them.
"""

import argparse
import ast
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    "README.md",
    "CHANGELOG.md",
    "client/README.md",
    "export/README.md",
    "serving/README.md",
    "tests/README.md",
    "tests/load/RESULTS.md",
)
PROGRAMS = ("featserve", "featserve-export", "featserve-serve")
_HELP = re.compile(r"```console\n\$ (featserve[a-z-]*(?: [a-z]+)* --help)\n.*?```", re.DOTALL)
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_MAKE = re.compile(r"(?:^|\$ |&& |; )(?:[A-Z_]+=\S+ )*make((?: [a-z][a-z-]*| [A-Z_]+=(?:'[^']*'|\S+))+)", re.MULTILINE)
_COMMAND = re.compile(r"^(?:\$ )?(featserve(?:-export|-serve)?)(?= |$)(.*)", re.MULTILINE)
_FLAG = re.compile(r"(?<!\S)--?[A-Za-z][\w-]*")


def read(document: str) -> str:
    """The text of a document."""
    return (ROOT / document).read_text(encoding="utf-8")


def rendered(text: str) -> str:
    """The text with every help block as the commands print it now."""
    return _HELP.sub(lambda block: f"```console\n$ {block[1]}\n{help_of(block[1])}```", text)


@functools.cache
def help_of(command: str) -> str:
    """What a command with `--help` prints."""
    name, *arguments = command.split()
    environment = {**os.environ, "COLUMNS": "110"}
    program = [Path(sys.executable).parent / name, *arguments]
    return subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [body for kind, body in _FENCED.findall(text) if kind == language]


def differing_help(document: str) -> Iterator[str]:
    """The commands whose help block differs from what they print."""
    text = read(document)
    for block in _HELP.finditer(text):
        # Python's releases wrap a usage line at different places.
        if block[0].split() != rendered(block[0]).split():
            yield f"{block[1]} prints something else; run make readme"


def broken_links(document: str) -> Iterator[str]:
    """The links whose file or anchor is not there."""
    text = _FENCED.sub("", read(document))
    for target in _LINK.findall(text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / document).parent / path if path else ROOT / document
        if not file.exists():
            yield f"{target} links to a file that is not there"
        elif anchor and anchor not in _anchors(file.read_text(encoding="utf-8")):
            yield f"{target} links to a heading that is not there"


def _anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to headings."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.+)$", _FENCED.sub("", text), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found[anchor] = found.get(anchor, -1) + 1
        if found[anchor]:
            found[f"{anchor}-{found[anchor]}"] = 0
    return set(found)


def broken_python(document: str) -> Iterator[str]:
    """The Python blocks that do not compile."""
    for block in blocks(read(document), "python"):
        try:
            compile(block, document, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            yield f"a Python block does not compile: {error}"


def unknown_make_words(document: str) -> Iterator[str]:
    """The make targets and knobs that the Makefile does not have."""
    makefile = read("Makefile")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    knobs = set(re.findall(r"^([A-Z_]+) \?=", makefile, re.MULTILINE))
    for span in _spans(read(document)):
        for words in _MAKE.findall(span):
            for word in re.findall(r"(?:^| )([a-z][a-z-]*|[A-Z_]+(?==))", words):
                if word not in targets | knobs:
                    yield f"make {word}: the Makefile has no such target or knob"


def unknown_flags(document: str) -> Iterator[str]:
    """The commands with a flag that their help does not have."""
    for span in _spans(read(document)):
        for name, rest in _COMMAND.findall(span):
            words = rest.split()
            sub = words[0] if words and re.fullmatch(r"[a-z][a-z-]+", words[0]) else ""
            if name == "featserve-export" or (name == "featserve-serve" and not sub.endswith("-config")):
                sub = ""
            for flag in _FLAG.findall(rest):
                if not re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", help_of(f"{name} {sub} --help")):
                    yield f"{name} {sub}: there is no {flag}"


def _spans(text: str) -> Iterator[str]:
    """The code in a text: fenced and indented blocks, and spans within lines."""
    yield from (body for _, body in _FENCED.findall(text))
    prose = _FENCED.sub("", text)
    yield from re.findall(r"^    (.+)$", prose, re.MULTILINE)
    yield from _CODE.findall(prose)


CHECKS = (differing_help, broken_links, broken_python, unknown_make_words, unknown_flags)


def main() -> int:
    """0 if the READMEs are right, or are now."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="leave the files as they are")
    if not parser.parse_args().check:
        for document in DOCUMENTS:
            (ROOT / document).write_text(rendered(read(document)), encoding="utf-8")
    problems = [f"{document}: {problem}" for document in DOCUMENTS for check in CHECKS for problem in check(document)]
    print("\n".join(problems), end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
