//! Edits of fields, the same for a whole answer and for every event of a stream.

use std::borrow::Cow;

use witgate_sdk::Call;

use crate::json;
use crate::path::Path;

/// Where fields are edited: a whole answer, which stays on the host, or an event, which is here.
pub(crate) trait Document {
    fn get(&self, pointer: &str) -> Option<Cow<'_, str>>;
    fn set(&mut self, pointer: &str, json: &str);
    fn remove(&mut self, pointer: &str);
}

impl Document for &Call {
    fn get(&self, pointer: &str) -> Option<Cow<'_, str>> {
        Call::get(self, pointer).map(Cow::Owned)
    }

    fn set(&mut self, pointer: &str, json: &str) {
        // Pointers and values are checked when the plugin starts: what can fail is an index that an array does not have,
        // and such a pointer leads nowhere.
        let _ = Call::set(self, pointer, json);
    }

    fn remove(&mut self, pointer: &str) {
        let _ = Call::remove(self, pointer);
    }
}

impl Document for String {
    fn get(&self, pointer: &str) -> Option<Cow<'_, str>> {
        json::get(self, pointer).map(Cow::Borrowed)
    }

    fn set(&mut self, pointer: &str, json: &str) {
        json::set(self, pointer, json);
    }

    fn remove(&mut self, pointer: &str) {
        json::remove(self, pointer);
    }
}

/// One edit of a field.
pub(crate) enum Edit {
    Rename(Path, Path),
    Remove(Path),
    /// Whether the field is there or not.
    Set(Path, String),
    /// Only if it is there.
    Replace(Path, String),
    /// Only if it is not there.
    Default(Path, String),
}

impl Edit {
    /// Edits the field at every place its path leads to.
    pub(crate) fn apply(&self, document: &mut impl Document) {
        let (Self::Rename(path, _)
        | Self::Remove(path)
        | Self::Set(path, _)
        | Self::Replace(path, _)
        | Self::Default(path, _)) = self;
        let places =
            path.indexes(|array| document.get(array).and_then(|array| json::len(&array)).unwrap_or(0));
        for indexes in places {
            self.apply_at(&path.pointer(&indexes), &indexes, document);
        }
    }

    fn apply_at(&self, pointer: &str, indexes: &[usize], document: &mut impl Document) {
        match self {
            Self::Rename(_, to) => rename(pointer, &to.pointer(indexes), document),
            Self::Remove(_) => document.remove(pointer),
            Self::Set(_, value) if has_parent(pointer, document) => document.set(pointer, value),
            Self::Replace(_, value) if document.get(pointer).is_some() => document.set(pointer, value),
            Self::Default(_, value) if document.get(pointer).is_none() && has_parent(pointer, document) => {
                document.set(pointer, value);
            }
            Self::Set(..) | Self::Replace(..) | Self::Default(..) => {}
        }
    }
}

fn rename(from: &str, to: &str, document: &mut impl Document) {
    let Some(value) = document.get(from).map(Cow::into_owned) else { return };
    if has_parent(to, document) {
        document.remove(from);
        document.set(to, &value);
    }
}

/// Says whether the parent is an object or an array. The document itself is one, or no pointer would lead anywhere.
fn has_parent(pointer: &str, document: &impl Document) -> bool {
    match pointer.rsplit_once('/') {
        Some(("", _)) | None => true,
        Some((parent, _)) => document.get(parent).is_some_and(|parent| json::is_container(&parent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    #[track_caller]
    fn check(edit: Edit, event: &str, expected: &str) {
        let mut document = event.to_owned();
        edit.apply(&mut document);
        assert_eq!(document, expected);
    }

    #[test]
    fn a_field_moves_where_its_new_parent_exists() {
        let edit =
            || Edit::Rename(path("/choices/*/delta/reasoning_content"), path("/choices/*/delta/reasoning"));
        check(
            edit(),
            r#"{"choices":[{"delta":{"reasoning_content":"a"}},{"delta":{"content":"b"}}]}"#,
            r#"{"choices":[{"delta":{"reasoning":"a"}},{"delta":{"content":"b"}}]}"#,
        );
        check(edit(), "[DONE]", "[DONE]");
        let to_nowhere = Edit::Rename(path("/a"), path("/b/c"));
        check(to_nowhere, r#"{"a":1}"#, r#"{"a":1}"#);
    }

    #[test]
    fn a_field_is_removed_at_every_place() {
        check(Edit::Remove(path("/a/*/x")), r#"{"a":[{"x":1},{"y":2},{"x":3}]}"#, r#"{"a":[{},{"y":2},{}]}"#);
        check(Edit::Remove(path("/a/*")), r#"{"a":[1,2,3]}"#, r#"{"a":[]}"#);
    }

    #[test]
    fn a_field_is_set_only_where_it_can_be() {
        let value = || "9".to_owned();
        check(
            Edit::Set(path("/usage/cost"), value()),
            r#"{"usage":{"a":1}}"#,
            r#"{"usage":{"a":1,"cost":9}}"#,
        );
        check(Edit::Set(path("/usage/cost"), value()), r#"{"usage":null}"#, r#"{"usage":null}"#);
        check(Edit::Set(path("/usage/cost"), value()), "{}", "{}");
        check(Edit::Set(path("/a"), value()), "{}", r#"{"a":9}"#);
        check(Edit::Set(path("/a"), value()), "[DONE]", "[DONE]");
        check(Edit::Replace(path("/a"), value()), r#"{"b":1}"#, r#"{"b":1}"#);
        check(Edit::Replace(path("/a"), value()), r#"{"a":null}"#, r#"{"a":9}"#);
        check(Edit::Default(path("/a"), value()), r#"{"a":null}"#, r#"{"a":null}"#);
        check(Edit::Default(path("/a"), value()), "{}", r#"{"a":9}"#);
        check(Edit::Default(path("/b/a"), value()), "{}", "{}");
    }
}
