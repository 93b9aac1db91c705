//! Reads one TOML table key by key against its [`Section`], collecting every fault on the way.
//!
//! ```text
//!   Table::open ──► required / optional / inner … ──► finish
//! ```
//!
//! A value that cannot be read is reported and then treated as absent, so that one fault gives one
//! message and the rest of the file is still looked at.

use super::diag::{At, Diagnostic, Sink, Span};
use super::guess;
use super::schema::{SECTIONS, Section};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Why a value cannot be used: what is wrong and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// What is wrong, without the name of the key.
    pub(super) what: String,
    /// What to write instead.
    pub(super) help: Option<String>,
}

impl Wrong {
    /// A fault whose message says all.
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), help: None }
    }

    /// With advice.
    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Reads a value of one type.
pub(super) type Read<T> = fn(&DeValue<'_>) -> Result<T, Wrong>;

/// One table that is being read.
pub(super) struct Table<'t, 'i> {
    section: &'static Section,
    span: Span,
    entries: &'t DeTable<'i>,
    asked: Vec<&'static str>,
}

impl<'t, 'i> Table<'t, 'i> {
    /// Starts with a value that should be a table; reports it when it is not one.
    pub(super) fn open(
        section: &'static Section,
        value: &'t Spanned<DeValue<'i>>,
        sink: &mut Sink,
    ) -> Option<Self> {
        let span = value.span();
        match value.get_ref() {
            DeValue::Table(entries) => {
                let table = Self { section, span, entries, asked: Vec::new() };
                table.report_unknown(sink);
                Some(table)
            }
            other => {
                let message = format!("`{}` is a section, not {}", section.path, article(other));
                sink.push(
                    Diagnostic::error(&span, message)
                        .help(format!("write it as {}", section.header())),
                );
                None
            }
        }
    }

    /// Where its header is written.
    pub(super) const fn span(&self) -> &Span {
        &self.span
    }

    fn report_unknown(&self, sink: &mut Sink) {
        for key in self.entries.keys() {
            if !self.section.names().any(|name| name == key.get_ref()) {
                sink.push(unknown(self.section, key.get_ref(), &key.span()));
            }
        }
    }

    fn look(&mut self, name: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
        debug_assert!(self.section.names().any(|known| known == name), "{name} is in the schema");
        self.asked.push(name);
        self.entries.get(name)
    }

    /// The value of a key that may be absent.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
        sink: &mut Sink,
    ) -> Option<At<T>> {
        let value = self.look(name)?;
        take(name, value, read, sink)
    }

    /// The value of a key, or what holds without it.
    pub(super) fn or<T>(
        &mut self,
        name: &'static str,
        default: T,
        read: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
        sink: &mut Sink,
    ) -> At<T> {
        self.optional(name, read, sink).unwrap_or(At::unwritten(default))
    }

    /// The value of a key that must be there; its absence is reported at the header.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
        sink: &mut Sink,
    ) -> Option<At<T>> {
        if let Some(value) = self.look(name) {
            return take(name, value, read, sink);
        }
        // A misspelt key is reported as such; saying also that the right one is missing would be
        // two messages for one fault.
        let misspelt =
            self.entries.keys().any(|key| suggestion(self.section, key.get_ref()) == Some(name));
        if !misspelt {
            let message = format!("{} needs `{name}`", self.section.header());
            let known = self.section.keys.iter().find(|key| key.name == name);
            let example = known.map_or("", |key| key.example);
            let help = format!("for example: {name} = {example}");
            sink.push(Diagnostic::error(&self.span, message).help(help));
        }
        None
    }

    /// The elements of a list, each with its place.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        read: Read<T>,
        sink: &mut Sink,
    ) -> Option<Vec<At<T>>> {
        let value = self.look(name)?;
        let DeValue::Array(items) = value.get_ref() else {
            let what = format!("`{name}` must be a list, not {}", article(value.get_ref()));
            sink.push(Diagnostic::error(&value.span(), what).help("write it as [\"…\", \"…\"]"));
            return None;
        };
        Some(items.iter().filter_map(|item| take(name, item, read, sink)).collect())
    }

    /// The elements of a list that must be there and have one at least.
    pub(super) fn required_list<T>(
        &mut self,
        name: &'static str,
        read: Read<T>,
        sink: &mut Sink,
    ) -> Option<Vec<At<T>>> {
        let Some(value) = self.entries.get(name) else {
            return self.required(name, |_| Ok(Vec::new()), sink).map(|none| none.value);
        };
        if value.get_ref().as_array().is_some_and(|items| items.is_empty()) {
            let message = format!("`{name}` is empty");
            sink.push(Diagnostic::error(&value.span(), message));
        }
        self.list(name, read, sink)
    }

    /// Whether the key is written, readable or not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// A section inside this one, at most once.
    pub(super) fn inner(
        &mut self,
        section: &'static Section,
        sink: &mut Sink,
    ) -> Option<Table<'t, 'i>> {
        let value = self.look(last(section))?;
        Table::open(section, value, sink)
    }

    /// A section inside this one, any number of times.
    pub(super) fn inner_list(
        &mut self,
        section: &'static Section,
        sink: &mut Sink,
    ) -> Vec<Table<'t, 'i>> {
        self.look(last(section)).map_or(Vec::new(), |value| open_all(section, value, sink))
    }

    /// Ends the reading. Debug builds make sure that every key of the schema has a reader.
    pub(super) fn finish(self) {
        debug_assert!(
            self.section.names().all(|name| self.asked.contains(&name)),
            "a key of {} is in the schema and never read",
            self.section.header()
        );
    }
}

/// Opens each table of an array of tables.
pub(super) fn open_all<'t, 'i>(
    section: &'static Section,
    value: &'t Spanned<DeValue<'i>>,
    sink: &mut Sink,
) -> Vec<Table<'t, 'i>> {
    if let DeValue::Array(items) = value.get_ref() {
        return items.iter().filter_map(|item| Table::open(section, item, sink)).collect();
    }
    let message =
        format!("`{}` is a list of sections, not {}", section.path, article(value.get_ref()));
    let help = format!("write {} with double brackets", section.header());
    sink.push(Diagnostic::error(&value.span(), message).help(help));
    Vec::new()
}

fn take<T>(
    name: &str,
    value: &Spanned<DeValue<'_>>,
    read: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
    sink: &mut Sink,
) -> Option<At<T>> {
    match read(value.get_ref()) {
        Ok(read) => Some(At::new(read, value.span())),
        Err(Wrong { what, help }) => {
            let mut diagnostic = Diagnostic::error(&value.span(), format!("`{name}` {what}"));
            diagnostic.help = help;
            sink.push(diagnostic);
            None
        }
    }
}

/// The last part of a section's path: the key that it is written under in the section around it.
pub(super) fn last(section: &Section) -> &'static str {
    section.path.rsplit('.').next().unwrap_or(section.path)
}

fn suggestion(section: &'static Section, key: &str) -> Option<&'static str> {
    guess::closest(key, section.names())
}

fn unknown(section: &'static Section, key: &str, span: &Span) -> Diagnostic {
    let message = format!("unknown key `{key}` in {}", section.header());
    let diagnostic = Diagnostic::error(span, message);
    if let Some(close) = suggestion(section, key) {
        return diagnostic.help(format!("did you mean `{close}`?"));
    }
    let home = SECTIONS.iter().find(|s| s.names().any(|name| name == key));
    diagnostic.help(match home {
        Some(home) => format!("`{key}` belongs in {}", home.header()),
        None => {
            let names: Vec<_> = section.names().collect();
            format!("the keys of {} are: {}", section.header(), names.join(", "))
        }
    })
}

/// What a value is, with its article, as it reads in a sentence.
pub(super) fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
