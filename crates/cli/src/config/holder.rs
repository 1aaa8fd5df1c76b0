//! Keys at the file's top that only hold what aliases use elsewhere. The parser resolves aliases and says nothing of their
//! anchors, so the text is looked at. It judges nothing but that: what is held is checked where it is merged.

use super::remark::Place;

/// Whether the key at this place of the text, at the beginning of its line, has an anchor in what it holds that an alias
/// elsewhere uses.
pub(super) fn holds(text: &str, key: Place) -> bool {
    if key.column != 1 {
        return false;
    }
    let skipped = usize::try_from(key.line.saturating_sub(1)).unwrap_or(usize::MAX);
    let start: usize = text.split_inclusive('\n').take(skipped).map(str::len).sum();
    let (before, rest) = text.split_at(start);
    let own = rest.split_inclusive('\n').enumerate().take_while(|(at, line)| *at == 0 || !begins_a_key(line));
    let (own, after) = rest.split_at(own.map(|(_, line)| line.len()).sum());
    let used = [names(before, '*'), names(after, '*')].concat();
    names(own, '&').iter().any(|anchor| used.contains(anchor))
}

/// Whether the line is one of the file's top; a list may begin at its key's own column.
fn begins_a_key(line: &str) -> bool {
    let in_list = line.strip_prefix('-').is_some_and(|rest| rest.trim_start().len() < rest.len());
    !in_list && line.starts_with(|c: char| !c.is_whitespace() && c != '#')
}

/// The names behind a sigil, outside quotes and comments.
fn names(text: &str, sigil: char) -> Vec<&str> {
    let (mut found, mut quote, mut comment, mut before) = (Vec::new(), None, false, '\n');
    for (at, c) in text.char_indices() {
        let begins = before.is_whitespace() || matches!(before, '[' | '{' | ',' | ':');
        match (quote, c) {
            _ if comment => comment = c != '\n',
            (Some(open), c) if c == open && (open == '\'' || before != '\\') => quote = None,
            (Some(_), _) => {}
            (None, '#') if before.is_whitespace() => comment = true,
            (None, '"' | '\'') if begins => quote = Some(c),
            (None, c) if c == sigil && begins => {
                let name = &text[at + 1..];
                let end = name.find(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}'));
                found.push(&name[..end.unwrap_or(name.len())]);
            }
            (None, _) => {}
        }
        before = c;
    }
    found.retain(|name| !name.is_empty());
    found
}
