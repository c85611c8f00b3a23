//! `witgate audit query`: what happened, and what happened to one request.

use std::io::Write;

use super::outline::Measure;
use super::output::{End, Output, visible_json};
use super::show::{self, Printer};
use super::table::Layout;
use super::{FilterArguments, Format, QueryArguments, Source, for_each_whole, tell};
use crate::audit::query::{self as record, Extent, Filter, Location, Row};

/// Prints the exchanges that match, or the one that is named.
///
/// # Errors
///
/// When the record cannot be read, a value makes no sense, or there is no exchange of that id.
pub(super) fn run(arguments: &QueryArguments, source: &Source<'_>, out: &mut Output) -> Result<(), End> {
    match &arguments.id {
        Some(id) => one(id, arguments, source, out),
        None => some(arguments, source, out),
    }
}

fn one(id: &str, arguments: &QueryArguments, source: &Source<'_>, out: &mut Output) -> Result<(), End> {
    if arguments.filter != FilterArguments::default() || arguments.before.is_some() {
        return Err(End::Misused(format!("`{id}` names one exchange: leave the filters out")));
    }
    let location = source.location(&arguments.place)?;
    let found = record::find(&location, id)?;
    match &*found {
        [] => Err(End::Failed(format!("there is no exchange `{id}` in `{location}`"))),
        [one] => {
            let row = record::whole(&location, one.id())?
                .ok_or_else(|| "the exchange was removed meanwhile".to_owned())?;
            show_one(&row, arguments, out)
        }
        several => {
            eprintln!("{} exchanges have this request id; give the number of one", several.len());
            table(several, out)
        }
    }
}

fn show_one(row: &Row, arguments: &QueryArguments, out: &mut Output) -> Result<(), End> {
    match arguments.format {
        Format::Table => {
            let measure = if arguments.full { Measure::Whole } else { Measure::Readable };
            write!(out, "{}", show::readable(row, measure))?;
        }
        Format::Jsonl => writeln!(out, "{}", visible_json(&show::json(row)?))?,
        Format::Csv => Printer::new(Format::Csv, Extent::Whole, None).print(row, out)?,
    }
    Ok(())
}

fn some(arguments: &QueryArguments, source: &Source<'_>, out: &mut Output) -> Result<(), End> {
    let mut further = vec![("limit", arguments.limit.as_str())];
    further.extend(arguments.before.as_deref().map(|before| ("before", before)));
    let filter = arguments.filter.filter(&further)?;
    let location = source.location(&arguments.place)?;
    if location.is_missing() {
        eprintln!("note: `{location}` is not there: nothing was recorded since the last rotation");
    }
    let (count, next) = if arguments.full {
        whole(&location, &filter, arguments.format, out)?
    } else {
        let page = record::list(&location, &filter)?;
        tell(&page.notes);
        summaries(&page.exchanges, arguments.format, out)?;
        (page.exchanges.len(), page.next)
    };
    // What is said stands below what was found.
    out.flush()?;
    if count == 0 {
        eprintln!("nothing found");
    }
    if let Some(next) = next {
        eprintln!("there are more: go on with `--before {next}`, or raise `--limit`");
    }
    Ok(())
}

/// How many were printed, and where the next ones are.
fn whole(
    location: &Location,
    filter: &Filter,
    format: Format,
    out: &mut Output,
) -> Result<(usize, Option<i64>), End> {
    let mut printer = Printer::new(format, Extent::Whole, None);
    let mut count = 0;
    let seen = for_each_whole(location, filter, filter.limit() as u64, |row| {
        count += 1;
        printer.print(&row, out)
    })?;
    Ok((count, seen.next))
}

fn summaries(rows: &[Row], format: Format, out: &mut Output) -> Result<(), End> {
    if format == Format::Table {
        return table(rows, out);
    }
    let mut printer = Printer::new(format, Extent::Summary, None);
    rows.iter().try_for_each(|row| printer.print(row, out))
}

fn table(rows: &[Row], out: &mut Output) -> Result<(), End> {
    let layout = Layout::of(rows, out.width);
    let mut printer = Printer::new(Format::Table, Extent::Summary, Some(layout));
    rows.iter().try_for_each(|row| printer.print(row, out))
}
