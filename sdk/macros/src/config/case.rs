//! The spellings of `#[serde(rename_all)]`.

/// How names are spelled in JSON.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) enum Rule {
    #[default]
    AsWritten,
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

impl Rule {
    /// The rule of this name, in serde's words.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "lowercase" => Self::Lower,
            "UPPERCASE" => Self::Upper,
            "PascalCase" => Self::Pascal,
            "camelCase" => Self::Camel,
            "snake_case" => Self::Snake,
            "SCREAMING_SNAKE_CASE" => Self::ScreamingSnake,
            "kebab-case" => Self::Kebab,
            "SCREAMING-KEBAB-CASE" => Self::ScreamingKebab,
            _ => return None,
        })
    }

    pub(super) fn or(self, other: Self) -> Self {
        if self == Self::AsWritten { other } else { self }
    }

    /// The name of a variant, which Rust spells `PascalCase`.
    pub(super) fn variant(self, name: &str) -> String {
        let snake = || {
            let mut snake = String::new();
            for (i, character) in name.char_indices() {
                if i > 0 && character.is_uppercase() {
                    snake.push('_');
                }
                snake.push(character.to_ascii_lowercase());
            }
            snake
        };
        match self {
            Self::AsWritten | Self::Pascal => name.to_owned(),
            Self::Lower => name.to_ascii_lowercase(),
            Self::Upper => name.to_ascii_uppercase(),
            Self::Camel => name[..1].to_ascii_lowercase() + &name[1..],
            Self::Snake => snake(),
            Self::ScreamingSnake => snake().to_ascii_uppercase(),
            Self::Kebab => snake().replace('_', "-"),
            Self::ScreamingKebab => snake().to_ascii_uppercase().replace('_', "-"),
        }
    }

    /// The name of a field, which Rust spells `snake_case`.
    pub(super) fn field(self, name: &str) -> String {
        let pascal = || {
            name.split('_')
                .filter(|word| !word.is_empty())
                .map(|word| word[..1].to_ascii_uppercase() + &word[1..])
                .collect::<String>()
        };
        match self {
            Self::AsWritten | Self::Lower | Self::Snake => name.to_owned(),
            Self::Upper | Self::ScreamingSnake => name.to_ascii_uppercase(),
            Self::Pascal => pascal(),
            Self::Camel => {
                let pascal = pascal();
                pascal[..1].to_ascii_lowercase() + &pascal[1..]
            }
            Self::Kebab => name.replace('_', "-"),
            Self::ScreamingKebab => name.to_ascii_uppercase().replace('_', "-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rule;

    #[track_caller]
    fn check(rule: &str, variant: &str, field: &str) {
        let rule = Rule::named(rule).unwrap_or_default();
        assert_eq!(rule.variant("VeryTasty"), variant);
        assert_eq!(rule.field("very_tasty"), field);
    }

    // The expected spellings are those of serde_derive's own table.
    #[test]
    fn names_are_spelled_as_serde_spells_them() {
        check("", "VeryTasty", "very_tasty");
        check("lowercase", "verytasty", "very_tasty");
        check("UPPERCASE", "VERYTASTY", "VERY_TASTY");
        check("PascalCase", "VeryTasty", "VeryTasty");
        check("camelCase", "veryTasty", "veryTasty");
        check("snake_case", "very_tasty", "very_tasty");
        check("SCREAMING_SNAKE_CASE", "VERY_TASTY", "VERY_TASTY");
        check("kebab-case", "very-tasty", "very-tasty");
        check("SCREAMING-KEBAB-CASE", "VERY-TASTY", "VERY-TASTY");
    }
}
