//! Where something is in a recipe.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The path of a field: keys and places in lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Field(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Field {
    /// The field `key` of this table.
    pub(super) fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    /// The element `index` of this list.
    pub(super) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// Where it begins in the text of `root`, in bytes; where it is missing, what it should be in. A table or a
    /// value begins with its key.
    pub(super) fn offset(&self, root: &DeTable<'_>) -> Option<usize> {
        let mut found = None;
        let mut place = Place::Table(root);
        for step in &self.0 {
            let (start, value) = match (step, place) {
                (Step::Key(wanted), Place::Table(table)) => {
                    let mut entries = table.iter();
                    match entries.find(|(key, _)| key.get_ref() == wanted) {
                        Some((key, value)) => (key.span().start, value),
                        None => return found,
                    }
                }
                (Step::Index(index), Place::List(list)) => match list.get(*index) {
                    Some(value) => (value.span().start, value),
                    None => return found,
                },
                _ => return found,
            };
            found = Some(start);
            place = Place::of(value);
        }
        found
    }

    /// The field whose value begins last before `offset` and does not end before it.
    pub(super) fn at(root: &DeTable<'_>, offset: usize) -> Self {
        let mut field = Self::default();
        let mut place = Place::Table(root);
        loop {
            let inside = |value: &Spanned<DeValue<'_>>| value.span().contains(&offset);
            let next = match place {
                Place::Table(table) => table
                    .iter()
                    .find(|(key, value)| key.span().contains(&offset) || holds(value, offset))
                    .map(|(key, value)| (field.key(key.get_ref()), value)),
                Place::List(list) => list
                    .iter()
                    .position(inside)
                    .and_then(|index| Some((field.index(index), list.get(index)?))),
                Place::Leaf => None,
            };
            let Some((deeper, value)) = next else {
                return field;
            };
            field = deeper;
            place = Place::of(value);
        }
    }
}

/// Whether `offset` is in the value or, as the span of a table is its header only, in something below it.
fn holds(value: &Spanned<DeValue<'_>>, offset: usize) -> bool {
    value.span().contains(&offset)
        || match Place::of(value) {
            Place::Table(table) => table
                .iter()
                .any(|(key, value)| key.span().contains(&offset) || holds(value, offset)),
            Place::List(list) => list.iter().any(|value| holds(value, offset)),
            Place::Leaf => false,
        }
}

enum Place<'a, 'i> {
    Table(&'a DeTable<'i>),
    List(&'a [Spanned<DeValue<'i>>]),
    Leaf,
}

impl<'a, 'i> Place<'a, 'i> {
    fn of(value: &'a Spanned<DeValue<'i>>) -> Self {
        match value.get_ref() {
            DeValue::Table(table) => Self::Table(table),
            DeValue::Array(list) => Self::List(list),
            _ => Self::Leaf,
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if at > 0 {
                        f.write_str(".")?;
                    }
                    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                    if !key.is_empty() && key.bytes().all(bare) {
                        f.write_str(key)?;
                    } else {
                        write!(f, "{key:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}
