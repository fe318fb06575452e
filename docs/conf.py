"""How the site is built: `make docs`, which treats every warning as an error. No page loads anything from a network."""

import sys
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

sys.path.insert(0, str(Path(__file__).parent))

import medcore_prune as mp

project = "medcore_prune"
author = "the medcore_prune authors"
version = release = mp.__version__
project_copyright = author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "site_help",
    "site_math",
]
# tables and texts of results are generated: headings may begin below the first level there
suppress_warnings = ["myst.header"]

myst_enable_extensions = ["dollarmath"]
# as GitHub writes equations that stand alone
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3

default_role = "literal"
nitpicky = True
# type variables, and what only the inside of the package makes
nitpick_ignore_regex = [
    ("py:class", r".*\.[A-Z]"),
    ("py:class", r".*\.(Part|Entry|Before|TrainSettings|TrainRecord|_finite)"),
]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
# several names may share a line, as in "heads, neurons: Units that stay."
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 150

html_theme = "furo"
html_title = "medcore_prune"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False


def documented(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement
) -> nodes.reference | nodes.TextElement | None:
    """Lead a type to where it is documented: signatures name the module that defines it. Other packages get no link."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("medcore_prune."):
        return contnode if node.get("refdomain") == "py" else None
    domain, last = env.domains["py"], target.rpartition(".")[2]
    names = [name for name in domain.objects if name.rpartition(".")[2] == last and name != target]
    if len(names) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", names[0], node, contnode)


def lone(app: Sphinx, docname: str, content: list[str]) -> None:
    """Reports are reached from the page of results; the list at the side would not be readable with all of them."""
    if docname.endswith("/report"):
        content[0] = f"---\norphan: true\n---\n{content[0]}"


def setup(app: Sphinx) -> None:
    """Register what is above."""
    app.connect("missing-reference", documented)
    app.connect("source-read", lone)
