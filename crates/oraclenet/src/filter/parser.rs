//! Tokens into a tree of comparisons.
//!
//! It works with a stack of its own instead of recursion, and drops parentheses around a single item, so the depth
//! of the tree is bounded by the number of comparisons and not by the number of parentheses.
//!
//! One thing is narrower here than in PocketBase, on purpose: there, a parenthesis may stand where an operator or an
//! operand is due (`title = (score = 2)`), and silently throws away what was begun before it.

use super::lexer::{Sign, Token, tokens};
use super::{FilterError, limits};

/// A comparison or a group of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// Two operands.
    Comparison { left: Operand, sign: Sign, right: Operand },
    /// Items in the order of the text, each with what joins it to the one before. `&&` binds tighter.
    Group(Vec<(Junction, Node)>),
}

/// What stands between two items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Junction {
    And,
    Or,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Identifier(String),
    Number(f64),
    Text(String),
    /// A function; its arguments are never functions themselves.
    Function {
        name: String,
        arguments: Vec<Operand>,
    },
}

/// The tree of `text`.
pub(super) fn parse(text: &str) -> Result<Node, FilterError> {
    if text.len() > limits::FILTER_BYTES {
        return Err(FilterError::Limit("bytes of a filter"));
    }
    Parser { tokens: tokens(text)?.into_iter(), comparisons: 0 }.run()
}

struct Parser {
    tokens: std::vec::IntoIter<Token>,
    comparisons: usize,
}

/// A group that is still open.
struct Level {
    items: Vec<(Junction, Node)>,
    /// What joins the next item.
    next: Junction,
}

impl Level {
    fn new() -> Self {
        Self { items: Vec::new(), next: Junction::And }
    }

    /// The whole as one node.
    fn close(mut self) -> Node {
        match self.items.pop() {
            Some((_, only)) if self.items.is_empty() => only,
            Some(last) => {
                self.items.push(last);
                Node::Group(self.items)
            }
            None => Node::Group(self.items),
        }
    }
}

impl Parser {
    fn run(mut self) -> Result<Node, FilterError> {
        let mut outer = Vec::new();
        let mut level = Level::new();
        loop {
            match self.tokens.next() {
                Some(Token::Open) => {
                    outer.push(std::mem::replace(&mut level, Level::new()));
                    continue;
                }
                Some(first) => {
                    let item = self.comparison(first)?;
                    level.items.push((level.next, item));
                }
                None => return Err(FilterError::malformed("a condition is missing")),
            }
            // After an item: close what closes here, then go on with a junction, or end.
            loop {
                match self.tokens.next() {
                    Some(Token::And) => level.next = Junction::And,
                    Some(Token::Or) => level.next = Junction::Or,
                    Some(Token::Close) => {
                        let Some(mut above) = outer.pop() else {
                            return Err(FilterError::malformed("a closing parenthesis too many"));
                        };
                        above.items.push((above.next, level.close()));
                        level = above;
                        continue;
                    }
                    Some(_) => return Err(FilterError::malformed("&& or || is missing")),
                    None if outer.is_empty() => return Ok(level.close()),
                    None => return Err(FilterError::malformed("a closing parenthesis is missing")),
                }
                break;
            }
        }
    }

    fn comparison(&mut self, first: Token) -> Result<Node, FilterError> {
        self.comparisons += 1;
        if self.comparisons > limits::COMPARISONS {
            return Err(FilterError::Limit("comparisons of a filter"));
        }
        let left = self.operand(Some(first))?;
        let Some(Token::Sign(sign)) = self.tokens.next() else {
            return Err(FilterError::malformed("an operator is missing"));
        };
        let token = self.tokens.next();
        let right = self.operand(token)?;
        Ok(Node::Comparison { left, sign, right })
    }

    fn operand(&mut self, token: Option<Token>) -> Result<Operand, FilterError> {
        match token {
            Some(Token::Function(name)) => Ok(Operand::Function { name, arguments: self.arguments()? }),
            other => simple(other),
        }
    }

    /// What stands between a function's parentheses; a comma may follow the last argument.
    fn arguments(&mut self) -> Result<Vec<Operand>, FilterError> {
        let mut arguments = Vec::new();
        loop {
            match self.tokens.next() {
                Some(Token::Close) => return Ok(arguments),
                other => arguments.push(simple(other)?),
            }
            match self.tokens.next() {
                Some(Token::Comma) => {}
                Some(Token::Close) => return Ok(arguments),
                _ => return Err(FilterError::malformed("a comma or a closing parenthesis is missing")),
            }
        }
    }
}

fn simple(token: Option<Token>) -> Result<Operand, FilterError> {
    match token {
        Some(Token::Identifier(name)) => Ok(Operand::Identifier(name)),
        Some(Token::Number(number)) => Ok(Operand::Number(number)),
        Some(Token::Text(text)) => Ok(Operand::Text(text)),
        _ => Err(FilterError::malformed("an operand is missing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_condition_is_refused() {
        for text in [
            "",
            "  ",
            "// only",
            "a",
            "a=",
            "=a",
            "a=1 b=2",
            "a=1 &&",
            "&& a=1",
            "a=1 && && b=2",
            "(a=1",
            "a=1)",
            "()",
            "(())",
            "a=1 && ()",
            "a=1 (b=2)",
            "a=(b=1)",
            "(a)=1",
            "a = 1 = 1",
            "f(=1",
            "f(1 2)=1",
            "f(,1)=1",
            "f(1,,2)=1",
            "f(g(1))=1",
            "f(1=1)=1",
            "a,b=1",
            "a=1,",
        ] {
            assert!(matches!(parse(text), Err(FilterError::Malformed(_))), "{text:?}");
        }
    }

    #[test]
    fn parentheses_around_one_item_leave_no_trace() {
        let plain = parse("a=1").expect("plain");
        assert_eq!(parse(&format!("{}a=1{}", "(".repeat(1000), ")".repeat(1000))), Ok(plain));
        let chain = parse("a=1 || b=1 && c=1").expect("a chain");
        assert_eq!(parse("((a=1) || (b=1) && ((c=1)))"), Ok(chain));
    }

    #[test]
    fn limits_hold_at_the_limit_and_not_one_past_it() {
        let many = |n: usize| vec!["a=1"; n].join("||");
        assert!(parse(&many(limits::COMPARISONS)).is_ok());
        assert_eq!(parse(&many(limits::COMPARISONS + 1)), Err(FilterError::Limit("comparisons of a filter")));
        let long = |n: usize| format!("a='{}'", "x".repeat(n - 4));
        assert!(parse(&long(limits::FILTER_BYTES)).is_ok());
        assert_eq!(parse(&long(limits::FILTER_BYTES + 1)), Err(FilterError::Limit("bytes of a filter")));
    }
}
