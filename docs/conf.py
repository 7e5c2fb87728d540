"""How the documentation is built: Sphinx, Markdown, furo."""

import curate

project = "curate"
release = curate.__version__
copyright = "the curate authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "curate"
html_static_path = ["_static"]
html_css_files = ["curate.css"]
exclude_patterns = ["changes/*"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
