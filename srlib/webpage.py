"""Self-contained web pages: a Jinja2 template with its style and scripts inside, which requests nothing from anywhere.

Templates are filled with autoescape, so that no file name or method name can become markup. A content security policy
allows this style, these scripts and images inside the file, and nothing else.
"""

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files

import jinja2
from markupsafe import Markup


@functools.cache
def environment(package: str) -> jinja2.Environment:
    """Return the environment of a package's `templates` folder: autoescape is on, an undefined name is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render_page(
    package: str,
    template: str,
    *,
    style: str,
    scripts: Sequence[str],
    values: Mapping[str, object],
    rules: Sequence[str] = (),
) -> str:
    """Return a page from `templates/<template>` of a package.

    Args:
        package: Package with a folder `templates`.
        template: Name of the template. Beside `values` it receives `policy`, `style` and `script`.
        style: Name of the CSS file.
        scripts: Names of JavaScript files, joined to one script.
        values: Variables of the template. Everything but `Markup` is escaped.
        rules: Rules to add to the content security policy, such as `connect-src 'self'`.
    """
    folder = files(package) / "templates"
    css = (folder / style).read_text(encoding="utf-8")
    script = "".join((folder / name).read_text(encoding="utf-8") for name in scripts)
    policy = [
        "default-src 'none'",
        "img-src data:",
        f"style-src '{_source(css)}'",
        f"script-src '{_source(script)}'",
        "base-uri 'none'",
        "form-action 'none'",
        *rules,
    ]
    # The quotes of the policy and the style stay as they are: both are ours, and the policy holds their hashes.
    own = {"policy": "; ".join(policy), "style": css, "script": script}
    marked = {name: Markup(text) for name, text in own.items()}  # noqa: S704
    return environment(package).get_template(template).render(**values, **marked)


def _source(text: str) -> str:
    """Return a hash as the content security policy names an allowed style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
