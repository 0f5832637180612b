"""A small tree of a page, parsed by the standard library."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "input", "hr", "wbr"}


@dataclass
class Node:
    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        ahead: list[Node | str] = [self]
        while ahead:
            node = ahead.pop()
            if isinstance(node, Node):
                yield node
                ahead.extend(reversed(node.children))

    def all(self, tag: str | None = None, style: str | None = None) -> list[Node]:
        return [
            node
            for node in self.walk()
            if (tag is None or node.tag == tag)
            and (style is None or style in node.attributes.get("class", "").split())
        ]

    def one(self, tag: str | None = None, style: str | None = None) -> Node:
        found = self.all(tag, style)
        assert len(found) == 1, f"expected one {tag} .{style}, found {len(found)}"
        return found[0]

    def inside(self, tag: str) -> list[Node]:
        """Return the direct children of that name."""
        return [child for child in self.children if isinstance(child, Node) and child.tag == tag]

    def by_id(self, name: str) -> Node:
        return next(node for node in self.walk() if node.attributes.get("id") == name)

    @property
    def text(self) -> str:
        """Return the visible text, with white space folded and without the text of drawings."""
        return " ".join(self.everything.split())

    @property
    def everything(self) -> str:
        return "".join(
            child if isinstance(child, str) else child.everything
            for child in self.children
            if isinstance(child, str) or child.tag != "svg"
        )

    @property
    def raw(self) -> str:
        return "".join(child for child in self.children if isinstance(child, str))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("root")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        assert len(node.attributes) == len(attrs), f"an attribute occurs twice: {tag} {attrs}"
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


@functools.lru_cache(maxsize=8)
def parse(page: str) -> Node:
    """Parse a page, to be read alone; fails on elements that are not closed in order."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == [reader.root], f"left open: {[node.tag for node in reader.open]}"
    return reader.root
