//! The tables of what the surfaces cannot say, for people.

use std::fmt::Write as _;

use crate::chat::{Field, Row};
use crate::wire::Surface;
use crate::wire::convert::table;

/// The surfaces that upstreams are asked on.
const TARGETS: [Surface; 3] = [Surface::Chat, Surface::Messages, Surface::Gemini];

/// What stands above the tables.
const INTRODUCTION: &str = "What a client says and the surface of its upstream has no words for is dropped, approximated or \
refused with 400. What both sides have is converted; if both speak the same, nothing is touched.";

/// Writes the tables as text for a terminal, in columns.
pub fn explain() -> String {
    let mut text = format!("{INTRODUCTION}\n");
    for target in TARGETS {
        let _ = write!(text, "\nFor upstreams that speak {}:\n\n", title(target));
        let rows = lines(target);
        let widths = widths(&rows);
        for row in rows {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text
}

/// Writes the tables as Markdown for the documentation.
pub fn markdown() -> String {
    let mut text = format!("# What each dialect cannot say\n\n{INTRODUCTION}\n");
    for target in TARGETS {
        let _ = write!(text, "\n## Upstreams that speak {}\n\n", title(target));
        for (number, row) in lines(target).into_iter().enumerate() {
            let _ = writeln!(text, "| {} |", row.join(" | "));
            if number == 0 {
                let _ = writeln!(text, "|{}", " --- |".repeat(row.len()));
            }
        }
    }
    text
}

/// What people know a surface as.
fn title(surface: Surface) -> &'static str {
    match surface {
        Surface::Chat => "OpenAI's chat completions",
        Surface::Responses => "OpenAI's Responses",
        Surface::Messages => "Anthropic's Messages",
        Surface::Gemini => "Google's generateContent",
    }
}

/// The rows of a table, the heading first: what is done, the field's name for each client that is not of the surface, how.
fn lines(target: Surface) -> Vec<[String; 5]> {
    let clients: Vec<Surface> = Surface::ALL.into_iter().filter(|client| *client != target).collect();
    let row = |first: &str, names: Vec<&str>, last: &str| {
        let name = |place: usize| names.get(place).copied().unwrap_or_default().to_owned();
        [first.to_owned(), name(0), name(1), name(2), last.to_owned()]
    };
    let heading = row("action", clients.iter().map(|client| client.label()).collect(), "how");
    let rows = table(target).iter().map(|Row { field, action, how }| {
        let names = clients.iter().map(|client| name(*field, *client)).collect();
        row(action.label(), names, how)
    });
    [heading].into_iter().chain(rows).collect()
}

/// A field's name for a client, or a dash.
fn name(field: Field, client: Surface) -> &'static str {
    field.name(client).unwrap_or("-")
}

fn widths(rows: &[[String; 5]]) -> [usize; 5] {
    let mut widths = [0; 5];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_every_table_is_told_in_both_forms() {
        let (text, markdown) = (explain(), markdown());
        for target in TARGETS {
            for row in table(target) {
                assert!(text.contains(row.how), "{row:?}");
                assert!(markdown.contains(&format!("| {} |", row.how)), "{row:?}");
                assert!(!row.how.contains('|'), "{row:?}");
                let names = Surface::ALL.into_iter().filter(|client| *client != target);
                let mut names = names.filter_map(|client| row.field.name(client));
                assert!(names.all(|name| text.contains(name)), "{row:?}");
            }
        }
    }

    #[test]
    fn the_documentation_has_the_tables() {
        let page = include_str!("../../../../docs/dialects.md");
        assert_eq!(
            page,
            markdown(),
            "`witgate explain --dialects --markdown > docs/dialects.md` writes it anew"
        );
    }

    #[test]
    fn a_field_has_one_row_in_a_table() {
        for target in Surface::ALL {
            let mut fields: Vec<Field> = table(target).iter().map(|row| row.field).collect();
            fields.sort_unstable();
            fields.dedup();
            assert_eq!(fields.len(), table(target).len(), "{}", target.label());
        }
    }
}
