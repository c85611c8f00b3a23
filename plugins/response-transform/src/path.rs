//! Pointers of rules: JSON Pointers in which a segment `*` stands for every element of an array.

/// A pointer with any number of `*`.
#[derive(Debug, PartialEq)]
pub(crate) struct Path {
    /// What stands before, between and after the stars; one more than there are stars.
    parts: Vec<String>,
}

impl Path {
    /// Reads a pointer. None if it is not one, or that of the whole document.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_escape = |rest: &str| rest.starts_with(['0', '1']);
        if !text.starts_with('/') || !text.split('~').skip(1).all(is_escape) {
            return None;
        }
        let (mut parts, mut part) = (Vec::new(), String::new());
        for segment in text[1..].split('/') {
            if segment == "*" {
                parts.push(std::mem::take(&mut part));
            } else {
                part.extend(["/", segment]);
            }
        }
        parts.push(part);
        Some(Self { parts })
    }

    /// The number of its stars.
    pub(crate) fn stars(&self) -> usize {
        self.parts.len() - 1
    }

    /// The pointer for these indexes in place of the first stars, up to the star after them.
    pub(crate) fn pointer(&self, indexes: &[usize]) -> String {
        let mut pointer = self.parts[0].clone();
        for (index, part) in indexes.iter().zip(&self.parts[1..]) {
            pointer.extend(["/", &index.to_string(), part]);
        }
        pointer
    }

    /// The indexes that the stars stand for in a document whose arrays have the lengths that `len` tells by pointer. The
    /// last come first, so that removing one does not move the next.
    pub(crate) fn indexes(&self, len: impl Fn(&str) -> usize) -> Vec<Vec<usize>> {
        let mut all = vec![Vec::new()];
        for _ in 0..self.stars() {
            let longer = |indexes: Vec<usize>| {
                let elements = 0..len(&self.pointer(&indexes));
                elements.rev().map(move |index| [indexes.as_slice(), &[index]].concat())
            };
            all = all.into_iter().flat_map(longer).collect();
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(path: &str, pointers: &[&str]) {
        let path = Path::parse(path).unwrap();
        let len = |array: &str| match array {
            "/a" | "/a/1/b" => 2,
            "/a/0/b" => 1,
            _ => 0,
        };
        let found = path.indexes(len).into_iter().map(|indexes| path.pointer(&indexes));
        assert_eq!(found.collect::<Vec<_>>(), pointers);
    }

    #[test]
    fn a_star_stands_for_every_element() {
        check("/a", &["/a"]);
        check("/a/b~1c", &["/a/b~1c"]);
        check("/", &["/"]);
        check("/a/*", &["/a/1", "/a/0"]);
        check("/a/*/b/*/c", &["/a/1/b/1/c", "/a/1/b/0/c", "/a/0/b/0/c"]);
        check("/ab/*/c", &[]);
        check("/a*/b", &["/a*/b"]);
    }

    #[test]
    fn what_is_no_pointer_of_a_field_is_refused() {
        for text in ["", "a", "#/a", "/a~", "/a~2"] {
            assert_eq!(Path::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_path_with_its_stars_filled_in_is_the_text(text in "(/(a|b~0|\\*|)){1,5}") {
            let path = Path::parse(&text).unwrap();
            let indexes = vec![7; path.stars()];
            let filled: Vec<&str> = text.split('/').map(|segment| if segment == "*" { "7" } else { segment }).collect();
            prop_assert_eq!(path.pointer(&indexes), filled.join("/"));
        }
    }
}
