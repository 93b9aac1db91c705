//! What is wrong with a configuration, where, and how it is shown.
//!
//! Reading and checking collect into a [`Sink`], so that one run reports everything. A finished
//! [`Report`] is ordered by position and draws itself for people (line, caret, help) or as JSON.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use core::ops::Range;
use serde_json::{Value, json};

/// Bytes of the file, from the first to one past the last.
pub type Span = Range<usize>;

/// A value and the place in the file that it was written at.
#[derive(Clone, Debug, Default)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it is written; empty at zero when it is a default.
    pub span: Span,
}

impl<T> At<T> {
    /// A value with its place.
    pub const fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// A value that the file does not mention.
    pub const fn unwritten(value: T) -> Self {
        Self { value, span: 0..0 }
    }
}

/// Two values are equal wherever they are written.
impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T> core::ops::Deref for At<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// Whether a finding stops the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably does not do what its author wants.
    Warning,
}

impl Severity {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One finding: what, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it stops the command.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where.
    pub span: Span,
    /// A remark beside the caret.
    pub label: Option<String>,
    /// A second place that belongs to it, with its remark.
    pub related: Option<(Span, String)>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A finding that stops the command.
    #[must_use]
    pub fn error(span: &Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            span: span.clone(),
            label: None,
            related: None,
            help: None,
        }
    }

    /// A finding that does not.
    #[must_use]
    pub fn warning(span: &Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// With a remark beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// With a second place. A place that is not written in the file is left out.
    #[must_use]
    pub fn related(mut self, span: &Span, label: impl Into<String>) -> Self {
        if !span.is_empty() {
            self.related = Some((span.clone(), label.into()));
        }
        self
    }

    /// With advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Where findings are collected.
#[derive(Debug, Default)]
pub(super) struct Sink {
    found: Vec<Diagnostic>,
}

impl Sink {
    /// Adds a finding.
    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    /// How many findings there are.
    #[must_use]
    pub(super) const fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether nothing found so far stops the command.
    #[must_use]
    pub(super) fn is_usable(&self) -> bool {
        self.found.iter().all(|d| d.severity == Severity::Warning)
    }

    /// The findings in the order of the file.
    #[must_use]
    pub(super) fn into_report(mut self, name: &str, text: &str) -> Report {
        self.found.sort_by_key(|d| (d.span.start, d.span.end));
        Report { name: name.to_owned(), text: text.to_owned(), found: self.found }
    }
}

/// Findings with the text that they point into.
#[derive(Clone, Debug)]
pub struct Report {
    name: String,
    text: String,
    found: Vec<Diagnostic>,
}

impl Report {
    /// The findings in the order of the file.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.found
    }

    /// The text that was read.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Other findings in the same text: what one command asks of a configuration and others do not.
    #[must_use]
    pub fn about(&self, found: Vec<Diagnostic>) -> Self {
        Self { name: self.name.clone(), text: self.text.clone(), found }
    }

    /// How many findings stop the command, and how many do not.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let errors = self.found.iter().filter(|d| d.severity == Severity::Error).count();
        (errors, self.found.len() - errors)
    }

    /// For people: each finding with its line and a caret, then one line with the number of them.
    /// Empty when there is nothing to say.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for diagnostic in &self.found {
            out += &renderer.render(&[self.draw(diagnostic)]);
            out += "\n\n";
        }
        let (errors, warnings) = self.counts();
        if errors > 0 {
            out += &format!("{}: {}", self.name, counted(errors, "error"));
            if warnings > 0 {
                out += &format!(", {}", counted(warnings, "warning"));
            }
            out += "; every key is described in docs/config.md\n";
        }
        out
    }

    fn draw<'a>(&'a self, diagnostic: &'a Diagnostic) -> Group<'a> {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let caret = AnnotationKind::Primary
            .span(self.inside(&diagnostic.span))
            .label(diagnostic.label.as_deref());
        let mut snippet = Snippet::source(&self.text).path(&self.name).annotation(caret);
        if let Some((span, label)) = &diagnostic.related {
            snippet = snippet
                .annotation(AnnotationKind::Context.span(self.inside(span)).label(label.as_str()));
        }
        let mut group = level.primary_title(diagnostic.message.as_str()).element(snippet);
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }

    /// A span that surely lies in the text and on character boundaries.
    fn inside(&self, span: &Span) -> Span {
        let start = self.text.floor_char_boundary(span.start);
        start..self.text.ceil_char_boundary(span.end).max(start)
    }

    /// For programs: one object for each finding, lines and columns from 1, columns in characters.
    #[must_use]
    pub fn to_json(&self) -> Vec<Value> {
        self.found.iter().map(|d| self.one_json(d)).collect()
    }

    fn one_json(&self, diagnostic: &Diagnostic) -> Value {
        let span = self.inside(&diagnostic.span);
        let (line, column) = position(&self.text, span.start);
        let (end_line, end_column) = position(&self.text, span.end);
        let related = diagnostic.related.as_ref().map(|(span, label)| {
            let (line, column) = position(&self.text, self.inside(span).start);
            json!({ "line": line, "column": column, "message": label })
        });
        json!({
            "severity": diagnostic.severity.name(),
            "file": self.name,
            "line": line,
            "column": column,
            "end_line": end_line,
            "end_column": end_column,
            "message": diagnostic.message,
            "label": diagnostic.label,
            "related": related,
            "help": diagnostic.help,
        })
    }
}

/// Line and column of a byte, both from 1, the column in characters.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..byte];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, text[line_start..byte].chars().count() + 1)
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_and_characters_from_one() {
        let text = "a\nöxy\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 2), (2, 1));
        assert_eq!(position(text, 4), (2, 2));
        assert_eq!(position(text, text.len()), (3, 1));
    }

    #[test]
    fn a_span_outside_the_text_is_drawn_and_not_a_panic() {
        for text in ["", "ö", "name = 1"] {
            for span in [0..0, 1..1, 0..1, 50..60, 8..8] {
                let mut sink = Sink::default();
                sink.push(Diagnostic::error(&span, "wrong").related(&span, "here"));
                let report = sink.into_report("f", text);
                assert!(report.render(false).contains("error: wrong"));
                assert_eq!(report.to_json().len(), 1);
            }
        }
    }

    #[test]
    fn findings_come_in_the_order_of_the_file() {
        let mut sink = Sink::default();
        sink.push(Diagnostic::error(&(4..5), "second"));
        sink.push(Diagnostic::warning(&(0..1), "first"));
        assert!(!sink.is_usable());
        let report = sink.into_report("f", "a = b");
        assert_eq!(report.counts(), (1, 1));
        assert_eq!(report.diagnostics()[0].message, "first");
    }
}
