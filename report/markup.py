"""Markdown, HTML and formulas to Typst, by pandoc: the words of a page, for helpers/typeset.py.

pandoc parses, this file mends what it gives (links that mean nothing on paper, pictures, spaces in formulas), pandoc
writes. Its tree is plain JSON: a node is {"t": kind, "c": content}.
"""

import json
import re
import subprocess

from helpers.runtime import UserError

MARKDOWN = (  # what Jupyter reads
    "commonmark+tex_math_dollars+pipe_tables+footnotes+task_lists+strikeout+autolink_bare_uris+implicit_figures"
)
NEXT = '<div class="next-piece"></div>'  # stands between the texts while pandoc reads them all at once
COLUMNS = 120  # code and printed text are wrapped there
ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
FLAGS = re.DOTALL | re.IGNORECASE
INVISIBLE = re.compile(r"<(script|style)\b.*?</\1\s*>|</?(div|details|center|section|span)\b[^>]*>", FLAGS)
CODE = r"^ {0,3}(?P<fence>```+|~~~+).*?(?:^ {0,3}(?P=fence)|\Z)|(?P<tick>`+)[^`].*?(?<!`)(?P=tick)(?!`)"
INLINE = r"(?<!\$)\$(?![\s$\d])(?:[^$\n]|\n(?!\n))+?(?<!\s)\$(?!\$)"
ENVIRONMENT = r"\\begin\{(?P<name>(?:align|equation|gather|eqnarray|multline)\*?)\}.*?\\end\{(?P=name)\}"
CODE_OR_MATH = re.compile(rf"{CODE}|{INLINE}|\$\$(?P<math>.+?)\$\$|(?P<bare>{ENVIRONMENT})", re.DOTALL | re.MULTILINE)
TEX = (  # what pandoc or Typst would set badly, and the same in a form that comes out right
    (re.compile(r"\\(?:label|tag)\*?\{[^{}]*\}|\\!|\\[bB]igg?[lrm]?(?![A-Za-z])"), ""),  # \! becomes a step of -1 em
    (re.compile(r"\\;"), r"\\:"),  # \; becomes no space at all
    (re.compile(r"\\(begin|end)\{(?:align|eqnarray|multline)\*?\}"), r"\\\1{aligned}"),
    (re.compile(r"\\operatorname\*?\{arg\s*(?:\\,|~)?\s*(min|max)\}"), r"\\arg\\\1"),
    (re.compile(r"\\\|(?!\s|\\[,:])(.+?)(?<!\s)(?<!\\,)\\\|"), r"\\lVert \1\\rVert "),  # a norm, no relation
    (re.compile(r"\\begin\{cases\}.*?\\end\{cases\}", re.DOTALL), lambda cases: cases[0].replace("&", r"& \quad ")),
)


def to_typst(pieces, picture, path):
    """Return pieces of a document, in order, as Typst source.

    pieces: (kind, text), kind being 'markdown', 'html' or 'typst'. picture: a function that takes an image's address
    and returns the file's name beside the source, or None where the image is to be left out. path: what the errors
    name. Raises UserError where something cannot be read, a formula cannot be set, or pandoc is not installed.
    """
    texts = {kind: [text for piece, text in pieces if piece == kind] for kind in ("markdown", "html")}
    fragments = []  # HTML among the Markdown, read together with the HTML of the outputs

    def collect(node):
        if node["t"] != "RawBlock":
            return [node]
        fragments.append(node["c"][1])
        return [_node("RawBlock", ["fragment", len(fragments) - 1])]

    markdown = _walk(_read([_one_line_math(text) for text in texts["markdown"]], MARKDOWN, path), collect)
    html = _read([_visible(text) for text in texts["html"] + fragments], "html", path)
    fragments = html[len(texts["html"]) :]
    markdown = _walk(markdown, lambda node: fragments[node["c"][1]] if node["t"] == "RawBlock" else [node])
    blocks = {"markdown": iter(markdown), "html": iter(html)}
    document = []
    for kind, text in pieces:
        typst = kind == "typst"
        document += [_node("RawBlock", [kind, text])] if typst else _walk(next(blocks[kind]), _mender(picture))
    return _pandoc(_tree(document), "json", "typst", path)


def literal(text):
    """Return printed text or code as a string of Typst: as a terminal shows it in the end, in lines that fit a page."""
    lines = ANSI.sub("", text).rstrip("\n").split("\n")
    lines = [CONTROL.sub("", line.rstrip("\r").rpartition("\r")[2]).expandtabs(4) for line in lines]
    wrapped = "\n".join(part for line in lines for part in _wrap(line))
    return json.dumps(wrapped, ensure_ascii=False)  # Typst escapes in strings as JSON does


def _wrap(line):
    indent = " " * min(len(line) - len(line.lstrip()) + 4, COLUMNS // 2)
    while len(line) > COLUMNS:
        cut = line.rfind(" ", COLUMNS // 2, COLUMNS + 1)
        cut = cut if cut > 0 else COLUMNS
        yield line[:cut].rstrip()
        line = indent + line[cut:].lstrip()
    yield line


def _visible(html):
    html = re.sub(r"<summary\b[^>]*>(.*?)</summary>", r"<p><b>\1</b></p>", html, flags=FLAGS)
    return INVISIBLE.sub("", html)


def _one_line_math(text):
    """Put each displayed formula of a Markdown text on a line of its own, where no sign in it can begin a list."""

    def join(match):
        formula = match["math"] or match["bare"]
        return match[0] if formula is None else f"$${' '.join(formula.split())}$$"

    return CODE_OR_MATH.sub(join, text)


def _mend_tex(formula):
    for pattern, replacement in TEX:
        formula = pattern.sub(replacement, formula)
    return formula


def _read(texts, reader, path):
    """Return pandoc's blocks for each text. All are read in one call, as starting pandoc takes long."""
    parsed = json.loads(_pandoc(f"\n\n{NEXT}\n\n".join(texts), reader, "json", path))
    limits = (_node("RawBlock", ["html", f"{NEXT}\n"]), _node("Div", [["", ["next-piece"], []], []]))
    groups = [[]]
    for block in parsed["blocks"]:
        if block in limits:
            groups.append([])
        else:
            groups[-1].append(_node("Para", block["c"]) if block["t"] == "Plain" else block)
    if len(groups) != max(1, len(texts)):
        raise UserError(f"{path}: a cell leaves a code fence or an HTML tag open, close it")
    return groups


def _mender(picture):
    """Return the function that gives for one pandoc node the nodes that stand for it on paper."""

    def mend(node):
        kind, content = node["t"], node.get("c")
        if kind == "Math":
            return [_node("Math", [content[0], _mend_tex(content[1])])]
        if kind == "RawInline":
            return _mend_tag(content[1], mend)
        if kind == "CodeBlock":
            language = json.dumps(next(iter(content[0][1]), "text"))
            return [_node("RawBlock", ["typst", f"#quoted({literal(content[1])}, {language})"])]
        if kind == "Table":
            _align(content)
        elif kind == "RawBlock":
            return []
        elif kind in ("Div", "Span"):
            return content[1]
        elif kind == "Header":
            content[1][0] = ""  # a label that nothing refers to, and that two headings may share
        elif kind == "Link" and not re.match(r"https?://|mailto:", content[2][0]):
            return content[1]  # to a file or heading of the notebook: only its text has a meaning on paper
        elif kind == "Image":
            name = picture(content[2][0])
            if name is None:
                return []
            content[2][0] = name
        return [node]

    return mend


def _mend_tag(tag, mend):
    """Return what stands for an HTML tag within a line; the text between two tags is a node beside them."""
    if re.match(r"<br\b", tag):
        return [_node("LineBreak")]
    source = re.match(r"<img\b[^>]*?\bsrc\s*=\s*[\"']([^\"']+)", tag)
    width = re.search(r"\bwidth\s*=\s*[\"']?(\d+(?:px|%)?)", tag)
    if not source:
        return []
    attributes = ["", [], [["width", width.group(1)]] if width else []]
    return mend(_node("Image", [attributes, [], [source.group(1), ""]]))


def _align(table):
    """Set the columns of a table that ask for nothing: numbers to the right, words to the left."""
    columns, bodies = table[2], table[4]
    rows = [row[1] for body in bodies for row in body[3]]
    for number, column in enumerate(columns):
        cells = [json.dumps(row[number]) for row in rows if len(row) > number]
        numeric = any(re.match(r"[-+−±.]?\d", "".join(re.findall(r'"Str", "c": "([^"]*)', cell))) for cell in cells)
        if column[0]["t"] == "AlignDefault":
            column[0]["t"] = "AlignRight" if numeric and number else "AlignLeft"


def _node(kind, content=None):
    return {"t": kind} if content is None else {"t": kind, "c": content}


def _tree(blocks):
    return json.dumps({"pandoc-api-version": [1, 23, 1], "meta": {}, "blocks": blocks})


def _walk(tree, change):
    """Return pandoc's `tree` with every node, the innermost first, replaced by the list of nodes `change` gives."""
    if isinstance(tree, dict):
        return {key: _walk(value, change) for key, value in tree.items()}
    if not isinstance(tree, list):
        return tree
    out = []
    for item in tree:
        item = _walk(item, change)
        out += change(item) if isinstance(item, dict) and "t" in item else [item]
    return out


def _pandoc(text, reader, writer, path):
    try:
        import pypandoc

        command = [pypandoc.get_pandoc_path(), "--from", reader, "--to", writer, "--wrap", "none"]
    except (ImportError, OSError) as error:
        raise UserError("pandoc is not installed: pip install -r requirements-dev.txt") from error
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8")
    complaint = " ".join(done.stderr.split())
    if done.returncode or "Could not convert TeX math" in complaint:
        raise UserError(f"{path}: cannot be typeset, mend the cell that pandoc names: {complaint[:300]}")
    return done.stdout
