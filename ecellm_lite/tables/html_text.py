"""Converts HTML in a cell into the text that a browser would show.

Tags, scripts, styles and hidden XML of word processors are removed, and entities are decoded. Each block, table row and
line break begins a new line. lxml parses the HTML as a stream, so it also copes with deeply nested or damaged HTML.
"""

from __future__ import annotations

import re
from typing import Any

from ecellm_lite.tables.extras import library

_TAGS = (
    "a|abbr|b|blockquote|br|center|code|dd|div|dl|dt|em|figure|font|footer|form|h[1-6]|head|header|hr|html|body|i|iframe|"
    "img|li|link|meta|nav|o:p|object|ol|p|pre|s|script|section|small|span|strike|strong|style|sub|sup|table|tbody|td|th|"
    "thead|tr|u|ul|video|xml"
)
_MARKUP = re.compile(
    rf"</?(?:{_TAGS})(?:\s[^<>]*|/)?>|<(?:w|o|v|m):\w+[\s>/]|<!--|<(?:{_TAGS})\s+[\w:-]+\s*=", re.IGNORECASE
)
_ENTITY = re.compile(r"&(?:[a-zA-Z][a-zA-Z0-9]{1,30}|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});")
_HIDDEN = frozenset({"script", "style", "head", "template", "noscript", "iframe", "object", "svg", "xml", "title"})
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "br", "center", "dd", "div", "dl", "dt", "figcaption", "figure",
    "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre",
    "section", "table", "tbody", "tfoot", "thead", "tr", "ul",
})  # fmt: skip
_CELLS = frozenset({"td", "th"})
_SPACE = re.compile(r"[ \t\r\f\v\xa0]+")
_LINES = re.compile(r" ?\n[ \n]*")


def is_html(text: str) -> bool:
    """Return whether a text is clearly HTML: it contains a known HTML tag or an entity.

    >>> is_html("<p>Mug</p>"), is_html("Tom &amp; Co"), is_html("a < b > c & d")
    (True, True, False)
    """
    if "<" in text and _MARKUP.search(text):
        return True
    return "&" in text and _ENTITY.search(text) is not None


def html_text(html: str) -> str:
    r"""Return the text of a piece of HTML, with a line feed between blocks.

    Some exports write a line end as a backslash and an `n`. These two characters become a space, as line ends do in
    HTML.

    >>> html_text("<p>Mug &amp; lid</p><ul><li>blue<li>red</ul>")
    'Mug & lid\nblue\nred'
    """
    etree = library("lxml.etree", "HTML in a cell")
    parser = etree.HTMLParser(target=_Text(), no_network=True, recover=True, remove_comments=True, remove_pis=True)
    # With this tag, the parser keeps leading white space, and does not take leading text for a title.
    parser.feed("<body>" + html.replace("\\r\\n", "\n").replace("\\n", "\n"))
    text: str = parser.close()
    return text


class _Text:
    """Collects the visible text while lxml parses HTML. lxml calls the methods."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._hidden: list[str] = []

    def start(self, tag: str, attributes: Any) -> None:
        if self._hidden:
            if tag == self._hidden[-1]:
                self._hidden.append(tag)
        elif tag in _HIDDEN or tag.startswith(("w:", "m:")):
            self._hidden.append(tag)
        elif tag in _BLOCKS:
            self._parts.append("\n")
        elif tag in _CELLS:
            self._parts.append(" ")

    def end(self, tag: str) -> None:
        if self._hidden:
            if tag == self._hidden[-1]:
                self._hidden.pop()
        elif tag in _BLOCKS:
            self._parts.append("\n")

    def data(self, text: str) -> None:
        """Add a text, if it is visible. Line ends in the text become spaces."""
        if not self._hidden:
            self._parts.append(text.replace("\n", " "))

    def close(self) -> str:
        """Return the collected text. Each run of white space becomes one space or one line feed."""
        return _LINES.sub("\n", _SPACE.sub(" ", "".join(self._parts))).strip()
