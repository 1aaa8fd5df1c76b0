//! Patterns for file names, as Go's `filepath.Match` reads them.

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// `*`: any letters, also none.
    Any,
    /// `?`: one letter.
    One,
    /// This letter.
    Letter(char),
    /// `[a-z]`, or with `^` any but these.
    Class { but: bool, ranges: Vec<(char, char)> },
}

/// A pattern that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(Vec<Piece>);

impl Glob {
    /// Reads `*`, `?`, `[a-z]`, `[^a-z]` and `\` before a letter that means itself.
    ///
    /// # Errors
    /// What is wrong with it, for the reader.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut letters = text.chars();
        let mut pieces = Vec::new();
        while let Some(letter) = letters.next() {
            pieces.push(match letter {
                '*' => Piece::Any,
                '?' => Piece::One,
                '\\' => Piece::Letter(letters.next().ok_or("a \\ at its end means nothing")?),
                '[' => class(&mut letters).ok_or("a [ has no ] that fits")?,
                other => Piece::Letter(other),
            });
        }
        Ok(Self(pieces))
    }

    /// Whether a whole name is like this.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut piece, mut at) = (0, 0);
        // Where the last `*` was, and how far its letters go; one more is tried where what follows does not fit.
        let mut star: Option<(usize, usize)> = None;
        loop {
            let fits = match (self.0.get(piece), name.get(at)) {
                (None, None) => return true,
                (Some(Piece::Any), _) => {
                    star = Some((piece, at));
                    piece += 1;
                    continue;
                }
                (Some(one), Some(letter)) => one.fits(*letter),
                _ => false,
            };
            match star {
                _ if fits => (piece, at) = (piece + 1, at + 1),
                Some((before, from)) if from < name.len() => {
                    star = Some((before, from + 1));
                    (piece, at) = (before + 1, from + 1);
                }
                _ => return false,
            }
        }
    }
}

impl Piece {
    fn fits(&self, letter: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Letter(own) => *own == letter,
            Self::Class { but, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&letter)) != *but
            }
        }
    }
}

/// What is between `[` and `]`.
fn class(letters: &mut std::str::Chars<'_>) -> Option<Piece> {
    let mut ranges = Vec::new();
    let mut next = letters.next()?;
    let but = next == '^';
    if but {
        next = letters.next()?;
    }
    loop {
        if next == ']' && !ranges.is_empty() {
            return Some(Piece::Class { but, ranges });
        }
        let low = letter(next, letters)?;
        next = letters.next()?;
        let mut high = low;
        if next == '-' {
            let last = letters.next()?;
            high = letter(last, letters)?;
            next = letters.next()?;
        }
        ranges.push((low, high));
    }
}

fn letter(first: char, letters: &mut std::str::Chars<'_>) -> Option<char> {
    match first {
        '\\' => letters.next(),
        '-' | ']' => None,
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_what_go_makes_of_it() {
        for (pattern, name, like) in [
            ("*", "", true),
            ("*.db", "a.db", true),
            ("*.db", ".db", true),
            ("*.db", "a.dbx", false),
            ("*.db*", "a.db-wal", true),
            ("a*b*c", "aXbbYc", true),
            ("a*b*c", "aXbbY", false),
            ("?.db", "ü.db", true),
            ("?.db", ".db", false),
            ("[a-c]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[^a-c]x", "dx", true),
            ("[\\]a]", "]", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Glob::parse(pattern).expect(pattern).matches(name), like, "{pattern} {name}");
        }
        for wrong in ["[", "[a", "[]", "[a-]", "[-a]", "a\\", "[a-b-c]"] {
            assert!(Glob::parse(wrong).is_err(), "{wrong}");
        }
    }
}
