//! Tables that read well in a terminal and are Markdown.

use anyhow::Result;
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

/// A Markdown table; all columns but the first are aligned right.
pub fn markdown(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Rows as CSV, with a header.
pub fn csv<T: Serialize>(rows: &[T]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    Ok(writer.into_inner()?)
}

/// The decimals that show two digits of an error.
pub fn decimals_of(error: f64) -> usize {
    (1 - error.log10().floor() as i32).clamp(0, 9) as usize
}

/// A number with thousands separated: 9 263 808.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    groups.map(|group| String::from_utf8_lossy(group).into_owned()).collect::<Vec<_>>().join(" ")
}

/// A number with four significant digits, in scientific form where it is very large or very small.
pub fn significant(number: f64) -> String {
    let magnitude = number.abs();
    match magnitude {
        0.0 => "0".into(),
        m if !(1e-3..1e5).contains(&m) => format!("{number:.3e}"),
        m => format!("{number:.*}", (3 - m.log10().floor() as i32).max(0) as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        assert_eq!([0, 999, 1000, 9_263_808].map(grouped), ["0", "999", "1 000", "9 263 808"]);
        assert_eq!([0.0, 0.21034, 12.345, 1234.5, 2e-5].map(significant), ["0", "0.2103", "12.35", "1234", "2.000e-5"]);
    }
}
