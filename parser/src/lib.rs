//! Dockerfile text to a typed IR, with spans on everything. No I/O.
//!
//! [`parse`] reads a [`Source`] and collects every error it can. Words stay raw ([`Word`]): the builder expands them
//! with [`Word::expand`] once it knows the variables. [`ignore`] and [`glob`] match paths of a build context.

mod directive;
mod error;
pub mod format;
pub mod glob;
pub mod ignore;
mod instruction;
mod line;
mod lint;
mod mapped;
mod parse;
mod raw;
mod source;
mod suggest;
mod token;
mod word;

pub use directive::{CheckOptions, RuleNames};
pub use error::{ParseError, ParseErrors};
pub use instruction::*;
pub use lint::{Rule, Warning};
pub use parse::{Parsed, parse, parse_onbuild};
pub use raw::{RawStatement, statements};
pub use source::{Source, Span, Spanned};
pub use suggest::nearest;
pub use word::{WordError, expand_heredoc};
