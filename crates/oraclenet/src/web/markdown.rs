//! What oracles write, as HTML that can do nothing but be read.
//!
//! HTML in the text is shown as text. Links lead to `http`, `https` and `mailto` only; images become links, so that
//! reading loads nothing from elsewhere. Headings stand below those of the page. Length and nesting have limits.

use pulldown_cmark::{
    Alignment, CodeBlockKind, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html,
};

/// How much of a text is rendered, characters; PocketBase's own limit is 5000.
pub const TEXT_MAX: usize = 20_000;
/// How deep quotes, lists and emphasis may stand in each other; what is deeper is shown without its marks.
pub const NESTING_MAX: usize = 24;

/// Markdown as HTML.
pub fn render(text: &str) -> String {
    let mut filter = Filter { open: Vec::new(), depth: 0 };
    let events = Parser::new_ext(cut(text, TEXT_MAX), options()).filter_map(|event| filter.event(event));
    let mut out = String::new();
    html::push_html(&mut out, events);
    out
}

/// The beginning of a text without its marks, on one line, at most `max` characters and an ellipsis. Headings, code
/// and tables are left out once there is something else: they say little when run together.
pub fn excerpt(text: &str, max: usize) -> String {
    let mut plain = String::new();
    let mut left_out = 0_usize;
    for event in Parser::new_ext(cut(text, TEXT_MAX), options()) {
        match event {
            Event::Start(Tag::Heading { .. } | Tag::CodeBlock(_) | Tag::Table(_))
                if left_out > 0 || !plain.is_empty() =>
            {
                left_out += 1;
            }
            Event::End(TagEnd::Heading(_) | TagEnd::CodeBlock | TagEnd::Table) => {
                left_out = left_out.saturating_sub(1);
                plain.push(' ');
            }
            _ if left_out > 0 => {}
            Event::Text(text) | Event::Code(text) | Event::Html(text) | Event::InlineHtml(text) => {
                plain.push_str(&text);
            }
            Event::End(TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough | TagEnd::Link) => {}
            Event::SoftBreak | Event::HardBreak | Event::Rule | Event::End(_) => plain.push(' '),
            _ => {}
        }
    }
    let words: Vec<&str> = plain.split_whitespace().collect();
    let line = words.join(" ");
    let start = cut(&line, max);
    if start.len() == line.len() {
        return line;
    }
    // A word is not cut, unless it is most of what there is.
    let whole = if line[start.len()..].starts_with(' ') {
        start
    } else {
        start.rsplit_once(' ').map_or("", |it| it.0)
    };
    let start = if whole.len() * 2 >= start.len() { whole } else { start };
    format!("{}…", start.trim_end())
}

/// The link that a text may be: as it is, or with `https://` where a scheme is missing. Only `http` and `https`.
pub fn web_address(text: &str) -> Option<String> {
    let text = text.trim();
    let plain = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if !plain {
        return None;
    }
    if allowed(text, &["http://", "https://"]) {
        return Some(text.to_owned());
    }
    let host = text.split(['/', '?', '#']).next().unwrap_or_default();
    (host.contains('.') && !host.contains([':', '@'])).then(|| format!("https://{text}"))
}

/// Text as it may stand in HTML and in its attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
    out
}

fn options() -> Options {
    Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES
}

fn cut(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(end, _)| &text[..end])
}

fn allowed(address: &str, schemes: &[&str]) -> bool {
    let starts =
        |scheme: &&str| address.get(..scheme.len()).is_some_and(|it| it.eq_ignore_ascii_case(scheme));
    schemes.iter().any(starts)
}

/// What became of a tag that is open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    /// It is in the output, and ends as it is.
    Shown,
    /// It is not.
    Dropped,
    /// It is a link of ours.
    Link,
}

struct Filter {
    open: Vec<Open>,
    /// How many of them are in the output.
    depth: usize,
}

impl Filter {
    fn event<'t>(&mut self, event: Event<'t>) -> Option<Event<'t>> {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Html(text) | Event::InlineHtml(text) => Some(Event::Text(text)),
            Event::Text(_) | Event::Code(_) | Event::SoftBreak | Event::HardBreak | Event::Rule => {
                Some(event)
            }
            // Not enabled, so they do not come.
            Event::InlineMath(_)
            | Event::DisplayMath(_)
            | Event::FootnoteReference(_)
            | Event::TaskListMarker(_) => None,
        }
    }

    fn start<'t>(&mut self, tag: Tag<'t>) -> Option<Event<'t>> {
        let (open, event) = match tag {
            Tag::Link { dest_url, .. } => link(&dest_url, ""),
            Tag::Image { dest_url, .. } => link(&dest_url, "image: "),
            Tag::HtmlBlock | Tag::Paragraph if self.depth >= NESTING_MAX => (Open::Dropped, None),
            // Its text would otherwise stand outside of any block.
            Tag::HtmlBlock => (Open::Shown, Some(Event::Start(Tag::Paragraph))),
            tag if self.depth >= NESTING_MAX => {
                let _ = tag;
                (Open::Dropped, None)
            }
            tag => (Open::Shown, Some(Event::Start(plain(tag)))),
        };
        self.open.push(open);
        self.depth += usize::from(open != Open::Dropped);
        event
    }

    fn end<'t>(&mut self, tag: TagEnd) -> Option<Event<'t>> {
        let open = self.open.pop().unwrap_or(Open::Dropped);
        self.depth -= usize::from(open != Open::Dropped);
        match (open, tag) {
            (Open::Dropped, _) => None,
            (Open::Link, _) => Some(Event::InlineHtml(CowStr::Borrowed("</a>"))),
            (Open::Shown, TagEnd::HtmlBlock) => Some(Event::End(TagEnd::Paragraph)),
            (Open::Shown, TagEnd::Heading(level)) => Some(Event::End(TagEnd::Heading(demoted(level)))),
            (Open::Shown, tag) => Some(Event::End(tag)),
        }
    }
}

/// A link to `address`, or nothing but its text if nobody should follow it.
fn link<'t>(address: &str, label: &str) -> (Open, Option<Event<'t>>) {
    let address = address.trim();
    if !allowed(address, &["http://", "https://", "mailto:"]) {
        return (Open::Dropped, None);
    }
    let html = format!("<a href=\"{}\" rel=\"nofollow ugc noopener\">{label}", escape(address));
    (Open::Link, Some(Event::InlineHtml(html.into())))
}

/// A tag without what the page does not want: ids, classes, styles, and headings that stand above its own.
fn plain(tag: Tag<'_>) -> Tag<'_> {
    match tag {
        Tag::Heading { level, .. } => {
            Tag::Heading { level: demoted(level), id: None, classes: Vec::new(), attrs: Vec::new() }
        }
        Tag::CodeBlock(_) => Tag::CodeBlock(CodeBlockKind::Indented),
        Tag::Table(columns) => Tag::Table(vec![Alignment::None; columns.len()]),
        Tag::BlockQuote(_) => Tag::BlockQuote(None),
        tag => tag,
    }
}

/// The page has a title and section headings of its own.
fn demoted(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H3,
        HeadingLevel::H2 => HeadingLevel::H4,
        HeadingLevel::H3 => HeadingLevel::H5,
        HeadingLevel::H4 | HeadingLevel::H5 | HeadingLevel::H6 => HeadingLevel::H6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REL: &str = "rel=\"nofollow ugc noopener\"";

    #[test]
    fn text_becomes_html() {
        let link = format!("<p><a href=\"https://a.example/?x=1&amp;y=2\" {REL}>here</a></p>\n");
        for (text, html) in [
            ("", ""),
            ("a *b* **c** ~~d~~ `e`", "<p>a <em>b</em> <strong>c</strong> <del>d</del> <code>e</code></p>\n"),
            ("# One\n\n###### Six", "<h3>One</h3>\n<h6>Six</h6>\n"),
            ("```js\nx < 1\n```", "<pre><code>x &lt; 1\n</code></pre>\n"),
            ("> q", "<blockquote>\n<p>q</p>\n</blockquote>\n"),
            ("[here](https://a.example/?x=1&y=2 \"t\")", link.as_str()),
        ] {
            assert_eq!(render(text), html, "{text:?}");
        }
    }

    #[test]
    fn hostile_text_can_only_be_read() {
        let texts = [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "<svg onload=alert(1)>\n\nx",
            "[a](javascript:alert(1))",
            "[a](JaVaScRiPt:alert(1))",
            "[a](java\tscript:alert(1))",
            "[a](&#106;avascript:alert(1))",
            "[a](data:text/html;base64,PHNjcmlwdD4=)",
            "[a](vbscript:x) [b](//evil.example) [c](/relative) [d](file:///etc/passwd)",
            "<javascript:alert(1)>",
            "[a](https://x.example/\"onmouseover=\"alert(1))",
            "[a](<https://x.example/'><script>alert(1)</script>>)",
            "![a](https://x.example/pixel.png)",
            "![a\"onerror=\"alert(1)](javascript:alert(1))",
            "[![a](data:image/svg+xml,x)](javascript:1)",
            "# x {#main .class onclick=alert(1)}",
            "```\"><script>alert(1)</script>\nx\n```",
            "|a|\n|:-:|\n|<b onclick=x>|",
            "<!-- a --> <?php ?> <![CDATA[x]]>",
            "[x]: javascript:alert(1)\n\n[x]",
            "- [x] <input autofocus onfocus=alert(1)>",
            "&lt;script&gt;alert(1)&lt;/script&gt;",
        ];
        for text in texts {
            let html = render(text);
            assert_eq!(foreign_tags(&html), Vec::<String>::new(), "{text:?} gave {html:?}");
        }
    }

    /// The tags of `html` that the renderer should never make.
    fn foreign_tags(html: &str) -> Vec<String> {
        const BARE: [&str; 23] = [
            "p",
            "em",
            "strong",
            "del",
            "code",
            "pre",
            "blockquote",
            "ul",
            "ol",
            "li",
            "h3",
            "h4",
            "h5",
            "h6",
            "hr",
            "hr /",
            "br /",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
        ];
        let tags = html.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default());
        let known = |tag: &str| {
            let bare = tag.strip_prefix('/').unwrap_or(tag);
            let quoted: Vec<&str> = tag.split('"').collect();
            let link = quoted.len() == 5
                && quoted[0] == "a href="
                && (quoted[1].starts_with("https://") || quoted[1].starts_with("mailto:"))
                && quoted[2..] == [" rel=", "nofollow ugc noopener", ""];
            link || bare == "a" || BARE.contains(&bare)
        };
        tags.filter(|tag| !known(tag)).map(str::to_owned).collect()
    }

    #[test]
    fn an_image_is_a_link_and_loads_nothing() {
        let html = format!("<p><a href=\"https://x.example/i.png\" {REL}>image: a cat</a></p>\n");
        assert_eq!(render("![a cat](https://x.example/i.png)"), html);
        assert_eq!(render("![a cat](cat.png)"), "<p>a cat</p>\n");
    }

    #[test]
    fn length_and_nesting_have_limits() {
        let html = render(&"x".repeat(TEXT_MAX + 1));
        assert_eq!(html.len(), TEXT_MAX + "<p></p>\n".len());
        let html = render(&format!("{}deep", "> ".repeat(2_000)));
        assert_eq!(html.matches("<blockquote>").count(), NESTING_MAX);
        assert_eq!(html.matches("</blockquote>").count(), NESTING_MAX);
        assert!(html.contains("deep"));
    }

    #[test]
    fn an_excerpt_is_one_line_of_plain_text() {
        for (text, max, line) in [
            ("# A\n\nb *c* <b>d</b>\ne [f](x)", 99, "A b c <b>d</b> e f"),
            ("- a\n- b", 99, "a b"),
            ("abc def", 7, "abc def"),
            ("abc def", 4, "abc…"),
            ("abc defghi", 6, "abc…"),
            ("a bcdefghi", 6, "a bcde…"),
            ("äöü", 2, "äö…"),
            ("One.\n\n## Two\n\n```\nthree\n```\n\n|f|\n|-|\n|g|\n\nSix.", 99, "One. Six."),
            ("```\ncode\n```", 99, "code"),
            ("", 5, ""),
        ] {
            assert_eq!(excerpt(text, max), line, "{text:?}");
        }
    }

    #[test]
    fn a_repository_is_a_link_only_when_it_is_a_web_address() {
        for (text, link) in [
            ("https://a.example/b", Some("https://a.example/b")),
            ("github.com/x/y", Some("https://github.com/x/y")),
            ("javascript:alert(1)", None),
            ("javascript:x.y", None),
            ("a@b.example", None),
            ("host.example:80/x", None),
            ("not an address.", None),
            ("nothing", None),
            ("", None),
        ] {
            assert_eq!(web_address(text).as_deref(), link, "{text:?}");
        }
    }
}
