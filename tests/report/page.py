"""A page taken apart with the standard library's parser: nesting, headings, attributes, visible text."""

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr"}
HIDDEN = {"style", "script", "title", "desc"}


class Page(HTMLParser):
    """Reads a page whole; a tag that closes what isn't open is an error."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.headings, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.words.append(" ")
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)
        if tag in {"h1", "h2", "h3"}:
            self.headings.append([tag, ""])

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()
        self.words.append(" ")

    def handle_data(self, data):
        if not HIDDEN & set(self.open):
            self.words.append(data)
        if self.open and self.open[-1] in {"h1", "h2", "h3"}:
            self.headings[-1][1] += data

    @property
    def text(self):
        """What a reader sees, thin spaces plain."""
        return " ".join("".join(self.words).replace("\N{NARROW NO-BREAK SPACE}", " ").split())

    @property
    def outline(self):
        """The headings of a level 2, in order."""
        return [text for tag, text in self.headings if tag == "h2"]


ALLOWED = {
    *("html", "head", "meta", "link", "title", "style", "body", "main", "header", "section", "article", "figure"),
    *("figcaption", "h1", "h2", "h3", "p", "span", "b", "i", "small", "div", "dl", "dt", "dd", "pre", "details"),
    *("summary", "table", "thead", "tbody", "tr", "th", "td", "svg", "desc", "path", "text", "g", "circle", "rect"),
}


def check_safe(page):
    """Only tags that the templates use; nothing is loaded, nothing runs."""
    assert set(page.tags) <= ALLOWED, set(page.tags) - ALLOWED
    for name, value in page.attributes:
        assert not name.startswith("on") and name not in {"src", "srcset", "action", "formaction", "srcdoc"}, name
        assert name != "href" or value == "data:,"
        assert name != "style" or "url(" not in value
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
