"""Filling an HTML template into one self-contained file, with a policy that lets nothing but its own parts run."""

import base64
import hashlib
from importlib.resources import files


def fill(name: str, parts: dict[str, str], *extra: str) -> str:
    """The page `templates/<name>.html` with `<name>.css`, `<name>.js` and `parts` in the places of `{{…}}`.

    The content security policy allows this style, this script, pictures inside the file and what `extra` adds, and no
    request to anywhere. Parts are inserted as they are: escape what is not ours.
    """
    folder = files("srlib.report") / "templates"
    page, style, script = ((folder / f"{name}{end}").read_text(encoding="utf-8") for end in (".html", ".css", ".js"))
    rules = ["default-src 'none'", "img-src data:", f"style-src '{_source(style)}'", f"script-src '{_source(script)}'"]
    policy = "; ".join([*rules, "base-uri 'none'", "form-action 'none'", *extra])
    filled = []
    for piece in page.split("{{"):  # in one pass: nothing is looked for inside of what was inserted
        mark, closed, rest = piece.partition("}}")
        filled += [{"policy": policy, "style": style, "script": script, **parts}[mark], rest] if closed else [piece]
    return "".join(filled)


def _source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
