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

/// The names behind a sigil, outside quotes, comments and block scalars.
fn names(text: &str, sigil: char) -> Vec<&str> {
    let (mut found, mut quote, mut block) = (Vec::new(), None, None);
    for line in text.lines() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        if block.is_some_and(|parent| indent > parent || line.trim().is_empty()) {
            continue;
        }
        let (mut escaped, mut before, mut end) = (false, '\n', line.len());
        for (at, c) in line.char_indices() {
            let begins = before.is_whitespace() || matches!(before, '[' | '{' | ',' | ':');
            match (quote, c) {
                (Some('"'), _) if escaped => escaped = false,
                (Some('"'), '\\') => escaped = true,
                (Some(open), c) if c == open => quote = None,
                (Some(_), _) => {}
                (None, '#') if before.is_whitespace() => {
                    end = at;
                    break;
                }
                (None, '"' | '\'') if begins => quote = Some(c),
                (None, c) if c == sigil && begins => found.push(name(&line[at + 1..])),
                (None, _) => {}
            }
            before = c;
        }
        block = if quote.is_none() { block_below(&line[..end]) } else { None };
    }
    found.retain(|name| !name.is_empty());
    found
}

/// The name at the beginning of this.
fn name(text: &str) -> &str {
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}'));
    &text[..end.unwrap_or(text.len())]
}

/// Where a line, without its comment, is the head of a block scalar (`key: |`, `- &a >-`): the column of what holds it. Lines
/// that are further in are its text.
fn block_below(line: &str) -> Option<usize> {
    let mut words = line.split_whitespace().rev();
    let head = words.next()?.strip_prefix(['|', '>'])?;
    if !head.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-')) {
        return None;
    }
    // A tag and an anchor may stand between.
    let holder = words.find(|word| !word.starts_with(['&', '!']))?;
    let behind_dashes = line.find(|c| !matches!(c, ' ' | '-'))?;
    if holder.ends_with(':') {
        Some(behind_dashes)
    } else if holder == "-" && words.all(|word| word == "-") {
        line[..behind_dashes].rfind('-')
    } else {
        None
    }
}
