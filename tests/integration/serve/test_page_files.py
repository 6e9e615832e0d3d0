"""The search page's files: what is served, under which headers, and what is never in them."""

import re
from html.parser import HTMLParser

import pytest

from thresher.serve.routes.page import bundle

MARKUP = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function")
URL = re.compile(r"(?:https?:)?//[a-z0-9-]+\.[a-z]{2,}/[^\s\"'`]*")
NAMESPACE = "http://www.w3.org/2000/svg"


class Page(HTMLParser):
    """Attributes and text of scripts and styles in a page."""

    def __init__(self, text):
        super().__init__()
        self.found, self.inside, self.inline = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found += [(tag, name, value) for name, value in attrs]
        self.inside = tag if tag in {"script", "style"} else ""

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside and data.strip():
            self.inline.append(data)


PAGES = [name for name in bundle() if name.endswith(".html")]


def test_the_page_and_all_it_names_are_served(client):
    for name in PAGES:
        text = bundle()[name].body.decode()
        for _, attribute, value in Page(text).found:
            if attribute in {"src", "href"} and value.startswith("/"):
                answer = client.get(value)
                assert answer.status_code == 200, value
                assert client.head(value).headers["content-length"] == str(len(answer.content))
    assert client.get("/").headers["content-type"] == "text/html; charset=utf-8"
    assert client.get("/page/search.js").headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"


def test_modules_import_modules_that_are_there():
    for name, file in bundle().items():
        for imported in re.findall(r'from "\./([^"]+)"', file.body.decode()):
            assert imported in bundle(), f"{name} imports {imported}"


def test_the_policy_allows_nothing_but_the_server_itself(client):
    for path in ("/", "/page/search.js"):
        headers = client.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert all(policy[f"{kind}-src"] == "'self'" for kind in ("script", "style", "connect", "img"))
        assert policy["require-trusted-types-for"] == "'script'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_nothing_in_the_bundle_needs_more_than_the_policy_allows():
    for name, file in bundle().items():
        text = file.body.decode()
        assert set(URL.findall(text)) <= {NAMESPACE}, name
        assert not MARKUP.search(text), name
    for name in PAGES:
        page = Page(bundle()[name].body.decode())
        assert not page.inline
        assert not [one for one in page.found if one[1] == "style" or one[1].startswith("on")]


def test_a_file_that_has_not_changed_is_not_sent_again(client):
    first = client.get("/page/style.css")
    again = client.get("/page/style.css", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/page/style.css", headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["/page/none.js", "/page/..%2fapp.py", "/page/%2e%2e/app.py", "/page/"])
def test_no_other_file_is_served(client, path):
    assert client.get(path).status_code == 404


def test_the_page_is_open_where_the_server_asks_for_a_key(small_index, serving):
    from thresher.serve.keys import Caller, key_of

    with serving({"fields": small_index}, keys=(key_of("secret", Caller("reader")),)) as made:
        assert made.client.get("/").status_code == 200
        assert made.client.get("/page/search.js").status_code == 200
        assert made.client.get("/info").status_code == 401
