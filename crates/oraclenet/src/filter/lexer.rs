//! Characters into tokens.
//!
//! The words are those of PocketBase's filter language: it skips blanks, tabs, line feeds and `//` comments, and
//! nothing else. It never looks at what an identifier means.

use super::FilterError;

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A field, a macro, `true`, `false`, `null`.
    Identifier(String),
    /// `name(`, without a blank between.
    Function(String),
    /// A number: digits, at most one point, a minus before it.
    Number(f64),
    /// A quoted text, without its quotes.
    Text(String),
    /// A comparison.
    Sign(Sign),
    /// `&&`
    And,
    /// `||`
    Or,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
}

/// A comparison, and whether one match among several values is enough (`?=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sign {
    pub(super) comparison: Comparison,
    pub(super) any: bool,
}

/// How two operands are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Like,
    NotLike,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// All tokens of `text`.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    // Even within a text or a comment.
    if text.contains('\0') {
        return Err(FilterError::malformed("a NUL"));
    }
    let mut lexer = Lexer { rest: text };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next()? {
        tokens.push(token);
    }
    Ok(tokens)
}

struct Lexer<'a> {
    rest: &'a str,
}

impl Lexer<'_> {
    fn next(&mut self) -> Result<Option<Token>, FilterError> {
        self.skip_blanks();
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        let token = match first {
            '(' => self.single(Token::Open),
            ')' => self.single(Token::Close),
            ',' => self.single(Token::Comma),
            '\'' | '"' => self.text(first)?,
            '-' | '0'..='9' => self.number()?,
            '@' | '_' | '#' | 'a'..='z' | 'A'..='Z' => self.identifier()?,
            '=' | '?' | '!' | '<' | '>' | '~' => self.sign()?,
            '&' | '|' => self.junction()?,
            other => return Err(FilterError::malformed(format!("the character {other:?}"))),
        };
        Ok(Some(token))
    }

    fn skip_blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\n']);
            let Some(comment) = self.rest.strip_prefix("//") else { return };
            self.rest = comment.find('\n').map_or("", |end| &comment[end..]);
        }
    }

    /// Takes the longest run of `wanted` from the start.
    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn single(&mut self, token: Token) -> Token {
        self.rest = &self.rest[1..];
        token
    }

    /// A text ends at its own quote unless a backslash stands before it; other backslashes stay what they are.
    fn text(&mut self, quote: char) -> Result<Token, FilterError> {
        let body = &self.rest[1..];
        let mut previous = quote;
        for (index, c) in body.char_indices() {
            if c == quote && previous != '\\' {
                let text = body[..index].replace(&format!("\\{quote}"), &quote.to_string());
                self.rest = &body[index + 1..];
                return Ok(Token::Text(text));
            }
            previous = c;
        }
        Err(FilterError::malformed("a text without its closing quote"))
    }

    fn number(&mut self) -> Result<Token, FilterError> {
        let mut points = 0;
        let mut length = 0;
        for (index, c) in self.rest.char_indices() {
            points += u32::from(c == '.');
            let belongs = c.is_ascii_digit() || (c == '-' && index == 0) || (c == '.' && points == 1);
            if !belongs {
                break;
            }
            length = index + 1;
        }
        let (literal, rest) = self.rest.split_at(length);
        self.rest = rest;
        match literal.parse::<f64>() {
            Ok(_) if literal.ends_with('.') => Err(FilterError::malformed("a number that ends in a point")),
            // What no double can hold is 0 there as well.
            Ok(number) => Ok(Token::Number(if number.is_finite() { number } else { 0.0 })),
            Err(_) => Err(FilterError::malformed("a minus without a number")),
        }
    }

    fn identifier(&mut self) -> Result<Token, FilterError> {
        let (first, rest) = self.rest.split_at(1);
        self.rest = rest;
        let more = self.take(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':'));
        let name = format!("{first}{more}");
        if more.ends_with(['.', ':']) || (more.is_empty() && matches!(first, "@" | "_" | "#")) {
            return Err(FilterError::malformed(format!("the name {name:?}")));
        }
        if let Some(rest) = self.rest.strip_prefix('(') {
            self.rest = rest;
            return Ok(Token::Function(name));
        }
        Ok(Token::Identifier(name))
    }

    fn sign(&mut self) -> Result<Token, FilterError> {
        let literal = self.take(|c| matches!(c, '=' | '?' | '!' | '<' | '>' | '~'));
        let (any, plain) = match literal.strip_prefix('?') {
            Some(plain) => (true, plain),
            None => (false, literal),
        };
        let comparison = match plain {
            "=" => Comparison::Equal,
            "!=" => Comparison::NotEqual,
            "~" => Comparison::Like,
            "!~" => Comparison::NotLike,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return Err(FilterError::malformed(format!("the operator {literal:?}"))),
        };
        Ok(Token::Sign(Sign { comparison, any }))
    }

    fn junction(&mut self) -> Result<Token, FilterError> {
        match self.take(|c| matches!(c, '&' | '|')) {
            "&&" => Ok(Token::And),
            "||" => Ok(Token::Or),
            other => Err(FilterError::malformed(format!("the operator {other:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_token_is_refused() {
        for text in [
            "@",
            "_",
            "#",
            "a.",
            "a:",
            ".5",
            "+1",
            "-",
            "- 1",
            "1.",
            "1.2.3",
            "'a",
            "\"a",
            "'a\\'",
            "'\\\\'",
            "=!=",
            "==",
            "<>",
            "!",
            "?",
            "&",
            "&&||",
            "/",
            "/ /",
            "a\rb",
            "\u{a0}",
            "é",
            "a\0b",
            "'a\0b'",
            "a // \0",
            "`a`",
            "[",
            ";",
            "1e\u{301}",
        ] {
            assert!(matches!(tokens(text), Err(FilterError::Malformed(_))), "{text:?}");
        }
    }

    #[test]
    fn texts_keep_what_is_not_an_escaped_quote_of_their_own_kind() {
        for (text, value) in [
            ("''", ""),
            ("\"\"", ""),
            (r"'a\'b'", "a'b"),
            (r#""a\"b""#, "a\"b"),
            (r#"'a\"b'"#, "a\\\"b"),
            (r"'a\b\\c'", r"a\b\\c"),
            ("'é // no \n comment'", "é // no \n comment"),
        ] {
            assert_eq!(tokens(text), Ok(vec![Token::Text(value.to_owned())]), "{text:?}");
        }
    }

    #[test]
    fn numbers_have_a_minus_and_a_point_at_most() {
        let huge = "9".repeat(400);
        for (text, number) in
            [("0", 0.0), ("-1", -1.0), ("1.5", 1.5), ("-.5", -0.5), ("007", 7.0), (&huge, 0.0)]
        {
            assert_eq!(tokens(text), Ok(vec![Token::Number(number)]), "{text:?}");
        }
        assert_eq!(tokens("1-2"), Ok(vec![Token::Number(1.0), Token::Number(-2.0)]));
    }

    #[test]
    fn a_function_is_a_name_with_its_parenthesis() {
        let name = |name: &str| Token::Identifier(name.to_owned());
        assert_eq!(tokens("f(a"), Ok(vec![Token::Function("f".to_owned()), name("a")]));
        assert_eq!(tokens("f (a"), Ok(vec![name("f"), Token::Open, name("a")]));
        assert_eq!(tokens("a.b:c // d\n@e.1"), Ok(vec![name("a.b:c"), name("@e.1")]));
    }
}
