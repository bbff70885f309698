"""The reference of all parameters, made from the sections and their descriptions.

python -m srlib.params.reference > docs/reference/params.md
"""

from collections.abc import Iterator
from typing import Any

from srlib.models import MODELS
from srlib.params.recipe import Params
from srlib.params.renamed import METRICS, RENAMES

Schema = dict[str, Any]
"""A part of a JSON schema."""

_INTRODUCTION = """\
# Parameters

<!-- Made by `python -m srlib.params.reference > docs/reference/params.md`; change the descriptions in srlib/params. -->

Every key of `params.yaml`. A section belongs to the stage of its name. Keys without a default must be given. Unknown
keys, values of another type and contradictions are errors, one line each, before the first stage runs. `null` is YAML's
word for nothing; `none` is another word, and right only where the column *values* has it. Recipes to copy are in the
folder `recipes`.

Three keys name folders that DVC itself reads: `prepare.images`, `evaluate.images` and `evaluate.survey`. Write them out
in every params.yaml. Where one is missing, `dvc` stops before any stage with `Could not find 'evaluate.survey'`; the
line to add below `evaluate:` is then `survey: data/survey`.
"""


def reference() -> str:
    """Return the reference as Markdown."""
    schema = Params.model_json_schema()
    definitions = schema["$defs"]
    parts = [_INTRODUCTION, *_section("", schema, definitions), *_renames()]
    return "\n".join(parts)


def _section(path: str, schema: Schema, definitions: Schema) -> Iterator[str]:
    """Yield a table of a section's keys, then the sections inside it."""
    required = schema.get("required", [])
    if path:
        yield f"{'##' if '.' not in path else '###'} `{path}`\n"
        yield f"{schema['description']}\n"
    keys = {key: value for key, value in schema["properties"].items() if key != "name" or "const" not in value}
    yield "| key | values | default | meaning |\n|---|---|---|---|"
    for key, value in keys.items():
        values = _values(value, f"{path}.{key}".lstrip("."), definitions)
        default = "" if key in required else _default(value.get("default"))
        yield f"| `{key}` | {values} | {default} | {value.get('description', '')} |"
    yield ""
    for key, value in keys.items():
        inner = f"{path}.{key}".lstrip(".")
        if "discriminator" in value:
            yield from _networks(inner, value["description"], definitions)
        else:
            for name in dict.fromkeys(_inner_sections(value)):
                yield from _section(inner, definitions[name], definitions)


def _networks(path: str, description: str, definitions: Schema) -> Iterator[str]:
    """Yield a table of the options of every network."""
    yield f"### `{path}`\n"
    yield f"{description} The key `name` chooses it.\n"
    for name, network in MODELS.items():
        width = network().equivariant_width
        yield f"#### `name: {name}`\n"
        yield f"{' '.join((network.__doc__ or '').split())} It " + (
            "can be equivariant.\n" if width else "cannot be equivariant.\n"
        )
        yield "| key | values | default | meaning |\n|---|---|---|---|"
        for key, value in definitions[network.__name__]["properties"].items():
            if key != "name":
                values = _values(value, path, definitions)
                yield f"| `{key}` | {values} | {_default(value['default'])} | {value['description']} |"
        yield ""


def _renames() -> Iterator[str]:
    """Yield a table of the keys with new names."""
    yield "## Renamed keys\n"
    yield "A recipe with an old key is refused with a line that says what to write.\n"
    yield "| old | new |\n|---|---|"
    for rename in RENAMES:
        values = "".join(f"; `{old}` → `{_default(new).strip('`')}`" for old, new in (rename.values or {}).items())
        yield f"| `{rename.section}.{rename.old}` | `{rename.section}.{rename.new}`{values} |"
    for old, new in METRICS.items():
        yield f"| `evaluate.champion.*.metric: {old}` | `{new}` |"
    yield ""


def _inner_sections(schema: Schema) -> Iterator[str]:
    """Yield the names of the sections that a value can be."""
    if "$ref" in schema:
        yield schema["$ref"].rsplit("/", 1)[-1]
    for part in [
        *schema.get("anyOf", []),
        *(schema[key] for key in ("items", "additionalProperties") if key in schema),
    ]:
        if isinstance(part, dict):
            yield from _inner_sections(part)


def _values(schema: Schema, path: str, definitions: Schema) -> str:
    """Return what a key can be, in words."""
    if "discriminator" in schema or "$ref" in schema:
        return f"[section](#{path.replace('.', '').lower()})"
    if "anyOf" in schema:
        return " or ".join(_values(part, path, definitions) for part in schema["anyOf"])
    if "const" in schema:
        return _default(schema["const"])
    if "enum" in schema:
        return ", ".join(_default(value) for value in schema["enum"])
    kind = schema["type"]
    if kind == "array":
        return f"list of: {_values(schema['items'], path, definitions)}"
    if kind == "object":
        keys = ", ".join(_default(value) for value in schema["propertyNames"]["enum"])
        return f"for {keys}: {_values(schema['additionalProperties'], path, definitions)}"
    names = {"boolean": "`true`, `false`", "null": "`null`", "string": "text", "integer": "integer", "number": "number"}
    return ", ".join([schema.get("format", names[kind]), *_limits(schema)])


def _limits(schema: Schema) -> Iterator[str]:
    """Yield the range of a number: `1 to 100`, or each of its ends."""
    if "minimum" in schema and "maximum" in schema:
        yield f"{schema['minimum']:,} to {schema['maximum']:,}"
        return
    for key, word in (("minimum", "at least"), ("exclusiveMinimum", "above"), ("maximum", "at most")):
        if key in schema:
            yield f"{word} {schema[key]:,}"
    if "exclusiveMaximum" in schema:
        yield f"below {schema['exclusiveMaximum']:,}"


def _default(value: object) -> str:
    """Return a value as YAML writes it, in code style."""
    if isinstance(value, dict):
        return "defaults of the section" if value else "none"
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else str(value).replace("'", "")
    return f"`{text}`"


if __name__ == "__main__":
    print(reference(), end="")
