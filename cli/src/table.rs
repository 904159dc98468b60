//! Tables in docker's layout: Go's tabwriter with cells of at least ten characters and three spaces between them.

const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Rows under a header. The last column is never padded, so no line has spaces at its end but those of its cells.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table that has only `header`.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    /// Adds a row, which has as many cells as the header.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        debug_assert_eq!(row.len(), self.rows[0].len(), "a row has a cell for each column");
        self.rows.push(row);
    }

    /// The whole text, each line ended.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            let longest = self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            MIN_WIDTH.max(longest + PADDING)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                text.push_str(cell);
                if column + 1 < columns {
                    let gap = widths[column] - cell.chars().count();
                    text.extend(std::iter::repeat_n(' ', gap));
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_dockers_header() {
        let table = Table::new(&["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
        assert_eq!(
            table.render(),
            "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"
        );
    }

    #[test]
    fn a_column_is_as_wide_as_its_longest_cell_and_three() {
        let mut table = Table::new(&["REPOSITORY", "TAG", "SIZE"]);
        table.push(vec!["registry.example/a".into(), "1".into(), "4.26MB".into()]);
        table.push(vec!["ä".into(), "latest".into(), "0B".into()]);
        assert_eq!(
            table.render(),
            "REPOSITORY           TAG       SIZE\n\
             registry.example/a   1         4.26MB\n\
             ä                    latest    0B\n"
        );
    }
}
