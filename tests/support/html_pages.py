"""Reads HTML pages for tests: their elements, their text, and whether every element is closed."""

from __future__ import annotations

from html.parser import HTMLParser

CONTAINERS = {"table", "ul", "ol", "svg"}
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """The elements and the text of a page.

    `open` are elements that are not closed. `lists` are the numbers of rows of every list that is shown without unfolding
    anything: tables, lists, charts with a label for each row, and notices. `folded` is the number of rows that are folded.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.lists: list[int] = []
        self.folded = 0
        self._containers: list[int | None] = []
        self._notices: int | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._count(tag, dict(attrs).get("class") or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in CONTAINERS:
            self._containers.pop()

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def _count(self, tag: str, look: str) -> None:
        """Count a row in the innermost list, or as folded; nested `svg` elements are charts of their own."""
        folded = "details" in self.open
        if tag in CONTAINERS:
            self._containers.append(None if folded else len(self.lists))
            if not folded:
                self.lists.append(0)
        elif tag == "div" and "notice" in look.split():
            if self._notices is None:
                self._notices = len(self.lists)
                self.lists.append(0)
            self._add(folded, self._notices)
        elif tag == "li" or (tag == "tr" and "tbody" in self.open) or (tag == "text" and "label" in look.split()):
            self._add(folded, self._containers[-1])

    def _add(self, folded: bool, container: int | None) -> None:
        if folded or container is None:
            self.folded += 1
        else:
            self.lists[container] += 1
