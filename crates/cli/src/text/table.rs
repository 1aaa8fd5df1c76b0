//! Columns for a terminal.

/// Lays rows out in columns two spaces apart, the first row being the head; ends with a line feed.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let line: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["path", "replica"], ["/data/a.db", "s3"]].map(|row| row.map(str::to_owned));
        assert_eq!(super::columns(&rows), "path        replica\n/data/a.db  s3\n");
        assert_eq!(super::columns::<1>(&[]), "");
    }
}
