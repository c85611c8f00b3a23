//! Exchanges one a line, in columns that fit the terminal.

use std::borrow::Cow;

use console::{measure_text_width, truncate_str};

use super::output::visible_line;
use crate::audit::query::Row;

/// One column of the table.
struct Column {
    title: &'static str,
    /// What it shows of an exchange.
    cell: fn(&Row) -> String,
    side: Side,
    /// The least it can be read with; none if it is never made smaller.
    width_min: Option<usize>,
    /// The usual width, for lines that come one after another.
    width_usual: usize,
    /// Where there is no room columns are left out, the highest number first; 0 is never left out.
    dispensable: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

const fn left(
    title: &'static str,
    width_min: usize,
    width_usual: usize,
    dispensable: u8,
    cell: fn(&Row) -> String,
) -> Column {
    Column { title, cell, side: Side::Left, width_min: Some(width_min), width_usual, dispensable }
}

const fn right(title: &'static str, width_usual: usize, dispensable: u8, cell: fn(&Row) -> String) -> Column {
    Column { title, cell, side: Side::Right, width_min: None, width_usual, dispensable }
}

const COLUMNS: [Column; 13] = [
    Column {
        title: "id",
        cell: |row| row.id().to_string(),
        side: Side::Left,
        width_min: None,
        width_usual: 19,
        dispensable: 0,
    },
    Column {
        title: "started (UTC)",
        // The year is left out, and so are parts of seconds.
        cell: |row| row.text("started").and_then(|text| text.get(5..19)).unwrap_or_default().to_owned(),
        side: Side::Left,
        width_min: None,
        width_usual: 14,
        dispensable: 2,
    },
    right("status", 6, 0, |row| integer(row, "status")),
    left("outcome", 9, 9, 0, |row| text(row, "outcome")),
    left("endpoint", 8, 16, 8, |row| text(row, "endpoint")),
    left("model", 10, 24, 0, |row| text(row, "model")),
    left("upstream", 8, 14, 4, |row| text(row, "upstream")),
    left("caller", 6, 12, 6, |row| {
        row.text("caller").or_else(|| row.text("key")).unwrap_or_default().to_owned()
    }),
    right("in", 7, 5, |row| integer(row, "input_tokens")),
    right("out", 7, 5, |row| integer(row, "output_tokens")),
    right("first ms", 8, 7, |row| milliseconds(row, "ttft_ms")),
    right("ms", 9, 1, |row| milliseconds(row, "duration_ms")),
    left("error", 12, 40, 3, error),
];

/// Between two columns.
const GAP: usize = 2;

/// How wide each column is; none for those that there is no room for.
pub(super) struct Layout(Vec<Option<usize>>);

impl Layout {
    /// Fits these exchanges into so many columns of a terminal; without a bound everything is shown whole.
    pub(super) fn of(rows: &[Row], width: Option<usize>) -> Self {
        let natural = COLUMNS.iter().map(|column| {
            let cells = rows.iter().map(|row| measure_text_width(&visible_line(&(column.cell)(row))));
            // A column without a value only takes room.
            cells.max().filter(|width| *width > 0).map(|width| width.max(column.title.len()))
        });
        Self(fit(&natural.collect::<Vec<_>>(), width))
    }

    /// Fits exchanges that are not known yet.
    pub(super) fn usual(width: Option<usize>) -> Self {
        let usual = COLUMNS.iter().map(|column| Some(column.width_usual.max(column.title.len())));
        Self(fit(&usual.collect::<Vec<_>>(), width))
    }

    /// The line of titles.
    pub(super) fn head(&self) -> String {
        self.line(|column| Cow::Borrowed(column.title))
    }

    /// The line of an exchange.
    pub(super) fn row(&self, row: &Row) -> String {
        self.line(|column| Cow::Owned(visible_line(&(column.cell)(row)).into_owned()))
    }

    fn line(&self, cell: impl Fn(&Column) -> Cow<'static, str>) -> String {
        let mut line = String::new();
        for (column, width) in COLUMNS.iter().zip(&self.0) {
            let Some(width) = *width else { continue };
            let cell = cell(column);
            // Numbers are never shown in part.
            let cell = if column.width_min.is_some() { truncate_str(&cell, width, "…") } else { cell };
            let room = " ".repeat(width.saturating_sub(measure_text_width(&cell)));
            let (before, after) = if column.side == Side::Right { (&*room, "") } else { ("", &*room) };
            line.push_str(&format!("{before}{cell}{after}{}", " ".repeat(GAP)));
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

/// Takes the columns that are needed most as long as there is room for them at their narrowest, and gives what is left to
/// those that want more.
fn fit(natural: &[Option<usize>], width: Option<usize>) -> Vec<Option<usize>> {
    let Some(mut room) = width else { return natural.to_vec() };
    // The first column has no gap before it.
    room += GAP;
    let mut widths = vec![None; natural.len()];
    let mut order: Vec<usize> = (0..natural.len()).collect();
    order.sort_by_key(|at| COLUMNS[*at].dispensable);
    for at in order {
        let Some(wanted) = natural[at] else { continue };
        let least = COLUMNS[at].width_min.map_or(wanted, |least| least.min(wanted));
        if COLUMNS[at].dispensable == 0 || least + GAP <= room {
            widths[at] = Some(least);
            room = room.saturating_sub(least + GAP);
        }
    }
    while room > 0 {
        let before = room;
        for (width, wanted) in widths.iter_mut().zip(natural) {
            if let (Some(width), Some(wanted)) = (width, wanted)
                && room > 0
                && *width < *wanted
            {
                *width += 1;
                room -= 1;
            }
        }
        if room == before {
            break;
        }
    }
    widths
}

fn text(row: &Row, name: &str) -> String {
    row.text(name).unwrap_or_default().to_owned()
}

fn integer(row: &Row, name: &str) -> String {
    row.integer(name).map(|number| number.to_string()).unwrap_or_default()
}

fn milliseconds(row: &Row, name: &str) -> String {
    row.real(name).map(|number| format!("{number:.0}")).unwrap_or_default()
}

fn error(row: &Row) -> String {
    match (row.text("error_kind"), row.text("error")) {
        (Some(kind), Some(message)) => format!("{kind}: {message}"),
        (Some(word), None) | (None, Some(word)) => word.to_owned(),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(width: usize) -> Vec<Option<usize>> {
        COLUMNS.iter().map(|_| Some(width)).collect()
    }

    #[test]
    fn without_a_bound_nothing_is_cut() {
        assert_eq!(fit(&all(100), None), all(100));
    }

    #[test]
    fn what_is_needed_most_stays_longest() {
        let usual = |width| {
            let head = Layout::usual(Some(width)).head();
            assert!(head.trim_end().chars().count() <= width, "{width}: {head}");
            head
        };
        assert!(usual(400).contains("endpoint") && usual(400).contains("error"));
        let narrow = usual(80);
        for title in ["id", "status", "outcome", "model", "ms"] {
            assert!(narrow.contains(title), "{title}: {narrow}");
        }
        assert!(!narrow.contains("endpoint"), "{narrow}");
    }

    #[test]
    fn a_terminal_may_be_smaller_than_any_table() {
        let widths = fit(&all(40), Some(3));
        assert_eq!(widths.iter().flatten().count(), 4, "id, status, outcome and model are always shown");
    }
}
